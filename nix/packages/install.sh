# Puts the bundles and the native module where they find each other.
mkdir -p "$out/lib/muster/node_modules/better-sqlite3/build/Release"
cp -r dist/agent dist/agent.mjs dist/coordinator.mjs dist/muster dist/muster.mjs "$out/lib/muster/"
cp -r node_modules/bindings node_modules/file-uri-to-path "$out/lib/muster/node_modules/"
cp -r node_modules/better-sqlite3/package.json node_modules/better-sqlite3/lib "$out/lib/muster/node_modules/better-sqlite3/"
cp node_modules/better-sqlite3/build/Release/better_sqlite3.node "$out/lib/muster/node_modules/better-sqlite3/build/Release/"
