#!/bin/bash
# Decides what becomes of the machine when training has ended. systemd runs it as root (ExecStopPost) and says in
# EXIT_STATUS how it ended: an exit code or a signal's name.
set -euo pipefail

INSTANCE_ID=$(cloud-init query instance_id)

# The machine is being stopped or taken away: whoever does that decides whether another one comes.
[ "$(systemctl is-system-running)" != stopping ] || exit 0

case "${EXIT_STATUS:-}" in
  75 | 130 | INT | TERM | HUP)
    echo "training was told to stop; the machine stays as it is"
    exit 0
    ;;
  0) echo "training is finished; ending the machine" ;;
  *)
    # The group gets no next machine, since the error would come again there.
    echo "training failed (${EXIT_STATUS:-not started}); keeping the journal at $LOGS and ending the machine"
    journalctl --unit cxr-train.service --boot --no-pager |
      aws s3 cp - "$LOGS/$INSTANCE_ID-failed.log" || echo "the journal could not be kept"
    ;;
esac
aws autoscaling terminate-instance-in-auto-scaling-group --instance-id "$INSTANCE_ID" \
  --should-decrement-desired-capacity
