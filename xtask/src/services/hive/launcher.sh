#!/bin/sh
# A session of Hive 4.2, statements on standard input: version | session FOLDER URL [NAME=VALUE ...]
set -e
home='@HOME@'
folder=$home
if [ "${1-}" = session ] && [ -n "${2-}" ]; then
    folder=$2
fi
mkdir -p "$folder/conf" "$folder/tmp"
# Without a locale the JVM takes names of files for ASCII.
export LC_ALL=C.UTF-8
opens=
for package in java.lang java.lang.invoke java.lang.reflect java.io java.net java.nio java.util java.util.concurrent \
    java.util.concurrent.atomic java.util.regex java.time sun.nio.ch sun.nio.cs sun.net.dns sun.security.action \
    sun.util.calendar; do
    opens="$opens --add-opens=java.base/$package=ALL-UNNAMED"
done
# Unquoted: each is a word.
exec '@JAVA@' -Xmx768m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.io.tmpdir="$folder/tmp" \
    -Dlog4j.configuration="file:$home/classes/log4j.properties" \
    $opens --add-opens=java.sql/java.sql=ALL-UNNAMED \
    -cp "$folder/conf:$home/classes:$home/jars/*" HiveSql "$@"
