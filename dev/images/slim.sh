#!/bin/sh
# Remove what a container never uses from a Debian image with Python: documentation, translations, the package manager,
# and parts of Python. What remains is copied into an empty image.
set -e
rm -rf /usr/share/doc /usr/share/man /usr/share/info /usr/share/locale /usr/share/i18n /usr/share/perl* /usr/share/python-wheels \
    /usr/lib/*/gconv /usr/lib/*/perl* /usr/lib/*/libperl* /usr/bin/perl* /var/lib/apt/* /var/cache/* /usr/lib/apt /usr/bin/apt*
find / -xdev -depth -type d \( -path '*/python3*/ensurepip' -o -path '*/python3*/idlelib' -o -path '*/python3*/lib2to3' \
    -o -path '*/python3*/test' -o -path '*/python3*/config-3*' -o -path '*/python3*/*-packages/pip' \) -exec rm -r {} +
