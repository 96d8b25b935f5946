"""Read every field of an hvcodec file; written from docs/format.md alone, and imports nothing of hvcodec."""

import zlib


def read(data: bytes) -> dict:
    """Return the fields of section 3 under their names there; raise ValueError if the file breaks a rule."""
    at = 0

    def require(holds: bool, rule: str) -> None:
        if not holds:
            raise ValueError(rule)

    def take(n: int) -> bytes:
        nonlocal at
        at += n
        require(at <= len(data), "the file ends early")
        return data[at - n : at]

    def u(n: int) -> int:
        return int.from_bytes(take(n), "little")

    def varint() -> int:
        value = count = 0
        more = True
        while more:
            byte = u(1)
            value |= (byte & 127) << 7 * count
            count, more = count + 1, byte > 127
        require(value < 1 << 32 and (byte > 0 or count == 1), "shortest form")
        return value

    require(take(4) == bytes.fromhex("E9485643"), "Magic")
    f = {"Version": u(1), "Flags": u(1), "Width": varint(), "Height": varint(), "Model_Id": take(6)}
    digests, extras, f["grey"], deep, f["trellis"] = (bool(f["Flags"] >> bit & 1) for bit in range(5))
    f["depth"] = 16 if deep else 8
    counts = u(1)
    f["Rho"] = list(take((counts >> 5) + 1))
    f["layers"] = [
        {"Chunk_Size": varint()} | ({"Symbol_Digest": u(4)} if digests else {}) for _ in range(counts % 32 + 1)
    ]
    f["extras"] = [{"Extra_Kind": u(1), "Extra_Size": varint()} for _ in range(u(1))] if extras else []
    covered = data[:at]
    require(u(4) == zlib.crc32(covered), "Header_Crc")
    start = at
    f["chunks"] = [take(layer["Chunk_Size"]) for layer in f["layers"]]
    for extra in f["extras"]:
        body = take(extra["Extra_Size"])
        if extra["Extra_Kind"] == 1:
            extra["Alpha_Filter"] = body[0]
            extra["Alpha_Data"] = zlib.decompress(body[1:])
        elif extra["Extra_Kind"] < 128:
            extra["content"] = zlib.decompress(body)
    payload = data[start:at]
    require(u(4) == zlib.crc32(payload), "Payload_Crc")
    require(at == len(data) and f["Version"] == 1 and f["Flags"] & 32 == 0, "length, Version, Flags")
    require(all(1 <= f[side] <= 1 << 24 for side in ("Width", "Height")), "sides")
    require(max(f["Rho"]) < 64 and len(f["extras"]) >= extras, "Rho, Extra_Count")
    return f
