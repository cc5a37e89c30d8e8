"""fetch.py KUBECONFIG PATH [first]: the body of a GET on standard output, or the path of the first object of a list.

Reads the kubeconfigs that the benchmarks use: one cluster, one user, flow or block style, without a YAML library.
"""
import base64, json, re, ssl, sys, tempfile, urllib.request

text = open(sys.argv[1]).read()


def value(key):
    found = re.search(rf"\b{key}: *['\"]?([^'\"\s,}}]+)", text)
    return found and found[1]


def file_of(key):
    """The file that holds a certificate or key, given by name or inline."""
    if value(key):
        return value(key)
    if not value(key + "-data"):
        return None
    kept = tempfile.NamedTemporaryFile()
    kept.write(base64.b64decode(value(key + "-data")))
    kept.flush()
    files.append(kept)
    return kept.name


files = []
context = ssl.create_default_context(cafile=file_of("certificate-authority"))
if file_of("client-certificate"):
    context.load_cert_chain(file_of("client-certificate"), file_of("client-key"))
request = urllib.request.Request(value("server") + sys.argv[2], headers={"Accept": "application/json"})
if value("token"):
    request.add_header("Authorization", "Bearer " + value("token"))
body = urllib.request.urlopen(request, context=context, timeout=30).read()
if sys.argv[3:] == ["first"]:
    print(sys.argv[2].split("?")[0] + "/" + json.loads(body)["items"][0]["metadata"]["name"])
else:
    sys.stdout.buffer.write(body)
