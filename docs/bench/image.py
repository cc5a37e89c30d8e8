"""Writes an OCI layout with Debian's busybox-static, named bench:1, into the directory given."""
import hashlib, io, json, os, sys, tarfile

out = sys.argv[1]
blobs = os.path.join(out, "blobs", "sha256")
os.makedirs(blobs)


def put(data, media):
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(blobs, digest), "wb") as f:
        f.write(data)
    return {"mediaType": media, "digest": "sha256:" + digest, "size": len(data)}


buffer = io.BytesIO()
with tarfile.open(fileobj=buffer, mode="w") as tar:
    busybox = open("/bin/busybox", "rb").read()
    info = tarfile.TarInfo("bin/busybox")
    info.size, info.mode = len(busybox), 0o755
    tar.addfile(info, io.BytesIO(busybox))
    for name in ("sh", "sleep"):
        link = tarfile.TarInfo("bin/" + name)
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(link)
layer = buffer.getvalue()
config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sleep", "3600"], "Env": ["PATH=/bin"]},
          "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}
manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": put(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
            "layers": [put(layer, "application/vnd.oci.image.layer.v1.tar")]}
entry = put(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
entry["annotations"] = {"org.opencontainers.image.ref.name": "bench:1"}
with open(os.path.join(out, "index.json"), "w") as f:
    json.dump({"schemaVersion": 2, "manifests": [entry]}, f)
with open(os.path.join(out, "oci-layout"), "w") as f:
    json.dump({"imageLayoutVersion": "1.0.0"}, f)
