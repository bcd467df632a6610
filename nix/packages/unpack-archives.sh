# Unpacks every archive to its place: lines of "node_modules/NAME ARCHIVE" in the file $placesPath -> $out/node_modules.
while read -r place archive; do
  mkdir -p "$out/$place"
  # Archives differ in the name of their top folder and in the rights of their files.
  tar -xzf "$archive" -C "$out/$place" --strip-components=1 --no-same-owner --no-same-permissions
  chmod -R u+rwX,go+rX,go-w "$out/$place"
done <"$placesPath"
