# Puts the bundles and the native module where they find each other.
sqlite=node_modules/better-sqlite3-node24
mkdir -p "$out/lib/muster/$sqlite/build/Release"
cp -r dist/agent dist/agent.mjs dist/coordinator.mjs dist/muster dist/muster.mjs "$out/lib/muster/"
cp -r $sqlite/package.json $sqlite/lib "$out/lib/muster/$sqlite/"
cp $sqlite/build/Release/better_sqlite3.node "$out/lib/muster/$sqlite/build/Release/"
