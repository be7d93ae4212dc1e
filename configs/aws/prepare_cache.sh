#!/bin/bash
# Puts /mnt/cxr (cache of shards, temporary files) onto the instance's own NVMe disk, which is empty whenever the
# machine was stopped. cxr-train.service runs it as root before each training.
set -euo pipefail

FOLDER=/mnt/cxr
IMAGES_OWN_FOLDER=/opt/dlami/nvme # AWS's deep learning images mount the disk by themselves

mount_disk() {
  local disk
  disk=$(lsblk --nodeps --noheadings --paths --output NAME,MODEL |
    awk '/Amazon EC2 NVMe Instance Storage/ { print $1; exit }')
  [ -n "$disk" ] || return 1
  # After a mere reboot the file system is still there. mkfs.ext4 refuses a disk that is in use.
  mount -o noatime "$disk" "$FOLDER" 2>/dev/null || {
    mkfs.ext4 -q "$disk" </dev/null && mount -o noatime "$disk" "$FOLDER"
  }
}

mkdir -p "$FOLDER"
if ! mountpoint -q "$FOLDER"; then
  if mountpoint -q "$IMAGES_OWN_FOLDER"; then
    mount --bind "$IMAGES_OWN_FOLDER" "$FOLDER"
  else
    mount_disk || echo "note: no NVMe disk to mount; the cache lies on the root volume" >&2
  fi
fi
install -d -o cxr -g cxr "$FOLDER/cache" "$FOLDER/tmp"
