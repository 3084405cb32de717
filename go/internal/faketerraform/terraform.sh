#!/bin/sh
# A stand-in for terraform: it answers what Atlantis asks of it, and touches nothing but its own plan file. A plan takes as
# many seconds as the first line "# plan takes N seconds" of a .tf file in the folder says.
set -eu

command=${1:-}
out=
for argument in "$@"; do
    case $argument in
        version | init | validate | plan | apply | show | workspace) command=$argument ;;
    esac
done
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
        seconds=$(sed -n 's/^# plan takes \([0-9][0-9.]*\) seconds$/\1/p' ./*.tf 2>/dev/null | head -n 1)
        [ -z "$seconds" ] || sleep "$seconds"
        [ -z "$out" ] || echo "a plan of the stand-in for terraform" > "$out"
        echo "Terraform will perform the following actions:"
        echo
        echo "  # null_resource.example will be created"
        echo "  + resource \"null_resource\" \"example\" {}"
        echo
        echo "Plan: 1 to add, 0 to change, 0 to destroy."
        ;;
    apply)
        echo "Apply complete! Resources: 1 added, 0 changed, 0 destroyed."
        ;;
    show)
        echo '{"format_version":"1.2","resource_changes":[]}'
        ;;
esac
