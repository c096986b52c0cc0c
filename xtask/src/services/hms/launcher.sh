#!/bin/sh
# A Hive Metastore @VERSION@ or its schema tool: version | serve PORT FOLDER URL [NAME=VALUE ...] | schematool FOLDER URL ARGUMENT ...
set -e
home='@HOME@'
verb=${1-}
case $verb in
    serve) folder=${3-} ;;
    schematool) folder=${2-} ;;
    *) folder= ;;
esac
if [ -n "$folder" ]; then
    mkdir -p "$folder/conf" "$folder/tmp"
    shift
    set -- "$verb" @VERSION@ "$@"
else
    folder=$home
fi
# Without a locale the JVM takes names of files for ASCII.
export LC_ALL=C.UTF-8
export METASTORE_HOME="$home" HIVE_HOME="$home" HIVE_CONF_DIR="$folder/conf"
exec '@JAVA@' -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.io.tmpdir="$folder/tmp" \
    -Dderby.stream.error.file="$folder/tmp/derby.log" -Dlog4j2.configurationFile="$home/classes/log4j2.properties" \
    --add-opens=java.base/java.lang=ALL-UNNAMED --add-opens=java.base/java.net=ALL-UNNAMED \
    --add-opens=java.base/java.util=ALL-UNNAMED --add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED \
    -cp "$folder/conf:$home/classes:$home/jars/*" Hms "$@"
