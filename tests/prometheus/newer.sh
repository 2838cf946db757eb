#!/bin/sh
# sh newer.sh FOLDER: unpack Prometheus 3, Alertmanager and compose v2 of a later Debian suite into FOLDER, beside what is installed.
# Neither the machine's package lists nor its packages are touched; the tests find the programs there, or say that they are
# not there. HOP2RAG_NEWER_SUITE names another suite.
set -eu
folder=${1:?a folder}; suite=${HOP2RAG_NEWER_SUITE:-forky}
[ -x "$folder/usr/bin/promtool" ] && [ -x "$folder/usr/bin/prometheus-alertmanager" ] && [ -x "$folder/usr/libexec/docker/cli-plugins/docker-compose" ] && exit 0
draft=$(mktemp -d); trap 'rm -rf "$draft"' EXIT
mkdir -p "$draft/lists/partial" "$draft/debs" "$draft/root"
# The mirror that this machine uses: newer machines name it in a .sources file, older ones in a list.
mirror=$(sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p' /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null | head -n 1)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:?no Debian mirror is configured} $suite main" > "$draft/sources.list"
apt() {
  apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::SourceList="$draft/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$draft/lists" "$@"
}
apt update
(cd "$draft/debs" && apt download prometheus promtool prometheus-alertmanager docker-compose)
for package in "$draft"/debs/*.deb; do dpkg-deb -x "$package" "$draft/root"; done
mkdir -p "$(dirname "$folder")"; rm -rf "$folder"; mv "$draft/root" "$folder"
