// Arrays of bytes from an .npz that is not compressed: name -> {shape, data}. Others are left out.
export function readNpz(buffer) {
  const view = new DataView(buffer);
  const text = (from, length) => new TextDecoder("latin1").decode(new Uint8Array(buffer, from, length));
  let end = buffer.byteLength - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw new Error("no zip archive");
  const arrays = {};
  let entry = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    const [nameLength, extra, comment] = [28, 30, 32].map((at) => view.getUint16(entry + at, true));
    const member = view.getUint32(entry + 42, true);
    const name = text(entry + 46, nameLength).replace(/\.npy$/, "");
    const data = member + 30 + view.getUint16(member + 26, true) + view.getUint16(member + 28, true);
    const header = text(data + 10, view.getUint16(data + 8, true));
    const shape = header.match(/'shape': \(([^)]*)\)/)[1].split(",").filter((part) => part.trim()).map(Number);
    if (header.includes("'|u1'")) {
      const size = shape.reduce((product, side) => product * side, 1);
      arrays[name] = { shape, data: new Uint8Array(buffer, data + 10 + header.length, size) };
    }
    entry += 46 + nameLength + extra + comment;
  }
  return arrays;
}
