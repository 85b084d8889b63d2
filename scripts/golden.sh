#!/bin/sh
# Unpacks the reference values of test/golden into a folder: *.tar.xz laid out, *.xz decompressed, everything else copied.
#
# usage: golden.sh FOLDER
# What is there and not older than its source is left alone.
set -eu
target=$1
cd "$(dirname "$0")/../test/golden"
case $target in /*) ;; *) target=../../$target ;; esac
for source in */*; do
    case $source in
    *.tar.xz) file=$target/${source%.tar.xz} ;;
    *.xz) file=$target/${source%.xz} ;;
    *) file=$target/$source ;;
    esac
    [ ! -e "$file" ] || [ "$source" -nt "$file" ] || continue
    mkdir -p "$(dirname "$file")"
    case $source in
    *.tar.xz)
        rm -rf "$file"
        xz -dc "$source" | tar -xmf - -C "$(dirname "$file")"
        touch "$file"
        continue ;;
    *.xz) xz -dc "$source" >"$file.part" ;;
    *) cp "$source" "$file.part" ;;
    esac
    mv "$file.part" "$file"
done
