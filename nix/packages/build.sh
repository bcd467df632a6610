# Compiles better-sqlite3 against $nodeSource, then makes dist/{agent,coordinator,muster}.mjs. No network.
export HOME="$TMPDIR"
cp -r "$nodeModules/node_modules" node_modules
chmod -R u+w node_modules
# It comes compiled as well, for machines with another loader than Nix's.
rm -r node_modules/better-sqlite3-node24/prebuilds
(cd node_modules/better-sqlite3-node24 && node "$nodeGyp" rebuild --release --force_build=1 --nodedir="$nodeSource")
node scripts/build.mjs
