# Fetches one package's archive, byte by byte as the registry serves it: $spec -> $out.
export HOME="$TMPDIR"
export npm_config_cache="$TMPDIR/npm"
export npm_config_update_notifier=false
mkdir archive
npm pack --silent --ignore-scripts --pack-destination archive "$spec"
mv archive/*.tgz "$out"
