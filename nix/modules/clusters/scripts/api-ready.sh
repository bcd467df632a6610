# Whether this machine's API server is ready: api-ready.sh CURL PORT CERTIFICATE KEY.
# k3s and k0s answer 401 to whoever does not say who they are (--anonymous-auth=false), so a client's certificate is shown where
# it lies there. What is still answered with 401, for want of a certificate or with one that has ended, comes from a server that
# serves: an address that nobody has is worse. One that is starting, stopping or without its datastore answers 500 to the certificate.
set -eu
curl=$1
url=https://127.0.0.1:$2/readyz
certificate=$3
key=$4
set --
[ ! -r "$certificate" ] || [ ! -r "$key" ] || set -- --cert "$certificate" --key "$key"
# It asks its own machine: whose certificate the server shows does not matter.
code=$("$curl" --silent --insecure --max-time 2 --output /dev/null --write-out '%{http_code}' "$@" "$url") || code=000
case $code in
  200 | 401) exit 0 ;;
esac
echo "the API server at $url is not ready: $code" >&2
exit 1
