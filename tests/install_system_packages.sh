#!/usr/bin/env bash
# Installs what only the tests need, where it is missing and can be had (Debian, root or sudo).
# Where it cannot, the tests that need it skip and say so.
set -u
missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v flite >/dev/null || missing+=(flite)
command -v espeak-ng >/dev/null || missing+=(espeak-ng)
command -v exiftool >/dev/null || missing+=(libimage-exiftool-perl)
command -v fusermount3 >/dev/null || missing+=(fuse3)
[ ${#missing[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null; then
  echo "Not installed: ${missing[*]}. The tests that need them are skipped."
  exit 0
fi
sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo -n"
$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq "${missing[@]}" >/dev/null \
  || echo "Could not install: ${missing[*]}. The tests that need them are skipped."
exit 0
