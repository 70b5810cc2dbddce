#!/bin/bash
# Runs as a service of a Debian that was booted to try the packages: installs them, has both services finish a session under
# the settings of their units, and purges them. `passed` is the last line when all went well.
set -euo pipefail
port=18090
packages=(chaarfm-server chaarfm-worker)

ask() { # METHOD PATH [BODY]
    exec 3<>"/dev/tcp/127.0.0.1/$port"
    printf '%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n' "$1" "$2" >&3
    printf 'Authorization: Bearer %s\r\n' "$token" >&3
    printf 'Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' "${#3}" "$3" >&3
    cat <&3
    exec 3>&-
}

wait_for() { # COMMAND…
    for _ in $(seq 600); do
        if "$@"; then return; fi
        sleep 0.1
    done
    echo "in vain: $*"
    journalctl --no-pager --unit 'chaarfm-*' | tail -n 40
    return 1
}

set_arguments() { # FILE VARIABLE ARGUMENTS
    sed -i "s|^$2=.*|$2=\"$3\"|" "/etc/chaarfm/$1.conf"
}

finished() {
    counts=$(ask GET "/api/sessions/$code" '' | grep -o '"counts":{[^}]*}')
    [[ $counts =~ \"queued\":0,\"leased\":0,\"done\":[1-9][0-9]*,\"failed\":0 ]]
}

dpkg --install /release/chaarfm-server-*-linux-x86_64.deb /release/chaarfm-worker-*-linux-x86_64.deb
for package in "${packages[@]}"; do
    "$package" --version
    systemctl is-active --quiet "$package" && { echo "$package runs before anybody has said what it shall do"; exit 1; }
    systemd-analyze verify "/usr/lib/systemd/system/$package.service"
done

set_arguments chaarfm-server CHAARFM_SERVER_ARGUMENTS "--listen 127.0.0.1:$port --library /srv/music"
systemctl start chaarfm-server
wait_for chaarfm-server healthcheck --address "127.0.0.1:$port"
token=$(chaarfm-server --data /var/lib/chaarfm-server token add check --role owner)
[[ $(ask POST /api/sessions/current '') =~ \"code\":\"([^\"]+)\" ]]
code=${BASH_REMATCH[1]}
ask POST "/api/sessions/$code/start" '{"library":"music","collection":"check"}' > /dev/null
set_arguments chaarfm-worker CHAARFM_WORKER_ARGUMENTS "--url http://127.0.0.1:$port --code $code --device flex --log info"
systemctl start chaarfm-worker
wait_for finished
echo "the session: $counts"
for package in "${packages[@]}"; do
    pid=$(systemctl show --property MainPID --value "$package")
    user=$(awk '/^Uid:/ { print $2 }' "/proc/$pid/status")
    echo "$package runs as the user $user: $(systemd-analyze security --no-pager "$package" | tail -n 1)"
    [[ $user != 0 ]]
    grep -q '^NoNewPrivs:.*1$' "/proc/$pid/status"
    grep -q '^Seccomp:.*2$' "/proc/$pid/status"
    grep -q '^CapEff:.*0000000000000000$' "/proc/$pid/status"
done

dpkg --purge "${packages[@]}"
left=$(find / -xdev \( -path /proc -o -path /sys -o -path /release -o -path /check.sh -o -path /var/log \) -prune -o -iname '*chaarfm*' -print)
[[ -z $left ]] || { echo "left behind: $left"; exit 1; }
echo passed
