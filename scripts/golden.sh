#!/bin/sh
# Unpacks the reference values of test/golden into a folder: *.xz decompressed, everything else linked or copied.
#
# usage: golden.sh FOLDER
# A file that is there and not older than its source is left alone.
set -eu
target=$1
cd "$(dirname "$0")/../test/golden"
case $target in /*) ;; *) target=../../$target ;; esac
for source in */*; do
    case $source in
    *.xz) file=$target/${source%.xz} ;;
    *) file=$target/$source ;;
    esac
    [ ! -e "$file" ] || [ "$source" -nt "$file" ] || continue
    mkdir -p "$(dirname "$file")"
    case $source in
    *.xz) xz -dc "$source" >"$file.part" ;;
    *) cp "$source" "$file.part" ;;
    esac
    mv "$file.part" "$file"
done
