#!/bin/sh
# A stand-in for terraform: it answers what Atlantis asks of it, and touches nothing but its own plan file. A plan takes as
# long as there is the file that a line "# plan takes as long as there is FILE" of a .tf file in the folder names, and makes FILE.begun
# when that begins. It fails where there is a line "# plan fails".
set -eu

command=${1:-}
out=
previous=
for argument in "$@"; do
    case $previous in -out | --out) out=$argument ;; esac
    case $argument in -out=* | --out=*) out=${argument#*=} ;; esac
    previous=$argument
done

case $command in
    version)
        echo "Terraform v1.9.8"
        ;;
    workspace)
        echo default
        ;;
    init)
        echo "Terraform has been successfully initialized!"
        ;;
    plan)
        busy=$(sed -n 's/^# plan takes as long as there is //p' ./*.tf 2> /dev/null | head -n 1)
        if [ -n "$busy" ] && [ -e "$busy" ]; then : > "$busy.begun"; fi
        while [ -n "$busy" ] && [ -e "$busy" ]; do sleep 0.1; done
        if grep -qs '^# plan fails' ./*.tf; then
            echo "Error: a .tf file asks for this plan to fail" >&2
            exit 1
        fi
        [ -z "$out" ] || echo "a plan of the stand-in for terraform" > "$out"
        echo "Terraform will perform the following actions:"
        echo
        echo "  # null_resource.example will be created"
        echo "  + resource \"null_resource\" \"example\" {}"
        echo
        echo "Plan: 1 to add, 0 to change, 0 to destroy."
        ;;
    apply)
        [ -z "${ATLOCK_KEY:-}" ] || echo "Under the lock $ATLOCK_KEY of pull $ATLOCK_PULL, token ${ATLOCK_TOKEN:-none}."
        echo "Apply complete! Resources: 1 added, 0 changed, 0 destroyed."
        ;;
    show)
        echo '{"format_version":"1.2","resource_changes":[]}'
        ;;
esac
