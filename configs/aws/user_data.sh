#!/bin/bash
# User data of a spot instance that trains. cloud-init runs it as root, once, when a new instance starts: it
# fetches what lies at SETUP, installs it (or finds it, on an image made of such an instance), and starts
# cxr-train.service, which goes on where the last instance ended.
set -Eeuo pipefail

SETUP=s3://BUCKET/setup # the wheel, train.yaml, cxr-train.service, prepare_cache.sh, after_training.sh
DATA=s3://BUCKET/shards/manifest.json
RUN=s3://BUCKET/runs/baseline # where the run is copied to with each checkpoint
LOGS=s3://BUCKET/logs
MORE_FLAGS="" # of engine train, such as --set train.global_batch=64

AWS_DEFAULT_REGION=$(cloud-init query region)
INSTANCE_ID=$(cloud-init query instance_id)
export AWS_DEFAULT_REGION

# What fails here would fail on the next instance, too, so the group gets no next one. A machine that is being
# taken away fails as well; that one is to be replaced.
give_up() {
  trap - ERR
  [ "$(systemctl is-system-running)" != stopping ] || exit 1
  aws s3 cp /var/log/cloud-init-output.log "$LOGS/$INSTANCE_ID-setup.log" || true
  aws autoscaling terminate-instance-in-auto-scaling-group --instance-id "$INSTANCE_ID" \
    --should-decrement-desired-capacity
  exit 1
}
trap give_up ERR

mkdir -p /opt/cxr
aws s3 sync --delete --only-show-errors "$SETUP" /opt/cxr/setup
id cxr >/dev/null 2>&1 || useradd --system --create-home --home-dir /opt/cxr/home cxr

if [ ! -x /opt/cxr/venv/bin/engine ]; then
  if ! python3 -c "import ensurepip" 2>/dev/null; then
    apt-get -o DPkg::Lock::Timeout=300 update
    apt-get -o DPkg::Lock::Timeout=300 install --yes python3-venv
  fi
  python3 -m venv /opt/cxr/venv
  # The file by its path, never the name alone: the name may be somebody else's on a package index.
  wheels=(/opt/cxr/setup/cxr_engine-*.whl)
  /opt/cxr/venv/bin/python -m pip install --quiet "${wheels[-1]}[gpu]"
fi

cat >/etc/cxr-train.env <<END
DATA="$DATA"
RUN="$RUN"
LOGS="$LOGS"
MORE_FLAGS="$MORE_FLAGS"
AWS_DEFAULT_REGION="$AWS_DEFAULT_REGION"
END
cp /opt/cxr/setup/cxr-train.service /etc/systemd/system/
systemctl daemon-reload
# Enabled, so that it also starts with an instance that was stopped and comes back. Without waiting: systemd
# may itself be waiting for this script.
systemctl enable cxr-train.service
systemctl start --no-block cxr-train.service
