# Compiles better-sqlite3 against $nodeSource, then makes dist/{agent,coordinator,muster}.mjs. No network.
export HOME="$TMPDIR"
cp -r "$nodeModules/node_modules" node_modules
chmod -R u+w node_modules
(cd node_modules/better-sqlite3 && node "$nodeGyp" rebuild --release --nodedir="$nodeSource")
node scripts/build.mjs
