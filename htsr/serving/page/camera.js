// Frames of the camera go to the service one by one; what comes next loops beside them, and what was predicted for now.
import { $, figure, say } from "./page.js";

const HEADER = 12;

export function startCamera(model) {
  const [height, width, channels] = model.frame_shape, size = height * width * channels;
  const pixels = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  [pixels.canvas.width, pixels.canvas.height] = [width, height];
  let running = null;
  $("rate").max = Math.floor(model.limits.max_live_fps);
  $("ahead").max = model.limits.max_live_horizon;

  // The picture of now as the model will see it.
  function grab() {
    const video = $("video"), [w, h] = [video.videoWidth, video.videoHeight];
    const scales = [width / w, height / h];
    const scale = model.fit === "crop" ? Math.max(...scales) : Math.min(...scales);
    const [dw, dh] = model.fit === "stretch" ? [width, height] : [w * scale, h * scale];
    pixels.fillRect(0, 0, width, height);
    pixels.drawImage(video, (width - dw) / 2, (height - dh) / 2, dw, dh);
    const rgba = pixels.getImageData(0, 0, width, height).data, frame = new Uint8Array(1 + size);
    for (let pixel = 0; pixel < width * height; pixel++) {
      const [r, g, b] = rgba.subarray(4 * pixel, 4 * pixel + 3);
      if (channels === 1) frame[1 + pixel] = Math.round(0.299 * r + 0.587 * g + 0.114 * b);
      else frame.set([r, g, b], 1 + 3 * pixel);
    }
    return frame;
  }

  async function start() {
    say("");
    if (!navigator.mediaDevices) throw new Error("browsers give the camera to https and to 127.0.0.1 alone; open this page there");
    const session = { sent: 0, told: 0, frames: [], futures: [], timers: [], errors: [] };
    running = session;
    session.stream = await navigator.mediaDevices.getUserMedia({ video: { width: 320, height: 240 } });
    if (running !== session) return session.stream.getTracks().forEach((track) => track.stop());
    $("video").srcObject = session.stream;
    await $("video").play();
    session.ahead = Number($("ahead").value);
    session.pause = 1000 / Math.min(Math.max(Number($("rate").value), 1), model.limits.max_live_fps);
    $("scene").replaceChildren();
    session.now = figure($("scene"), "Now", true, model.frame_shape);
    session.next = figure($("scene"), "What comes next", false, model.frame_shape);
    session.said = figure($("scene"), "Predicted for now", false, model.frame_shape);
    $("scene").hidden = false;
    $("watch").textContent = "Stop";
    const address = new URL(`live?horizon=${session.ahead}`, location.href);
    address.protocol = address.protocol.replace("http", "ws");
    session.socket = new WebSocket(address);
    session.socket.binaryType = "arraybuffer";
    session.socket.onmessage = ({ data }) => receive(session, data);
    session.socket.onclose = () => { if (running === session) stop(); };
    session.socket.onopen = () => {
      session.timers.push(setInterval(() => send(session), session.pause), setInterval(() => loop(session), session.pause));
    };
  }

  // A frame, where the service has seen the one before.
  function send(session) {
    if (session.told < session.sent || session.socket.readyState !== WebSocket.OPEN) return;
    const frame = grab();
    session.frames[session.sent % 256] = frame.subarray(1);
    session.now.draw(frame.subarray(1));
    session.now.note(`frame ${session.sent}`);
    const future = session.futures[(session.sent - session.ahead) % 256];
    if (future?.first === session.sent - session.ahead + 1 && future.count === session.ahead) {
      const said = future.data.subarray(size * (session.ahead - 1));
      session.said.draw(said);
      session.said.note(`${session.ahead} frames ago`);
      compare(session, frame.subarray(1), said, session.frames[(session.sent - session.ahead) % 256]);
    }
    session.socket.send(frame);
    session.sent++;
  }

  function compare(session, now, said, before) {
    const error = (other) => now.reduce((sum, value, i) => sum + Math.abs(value - other[i]), 0) / size / 255;
    session.errors.push([error(said), error(before)]);
    if (session.errors.length > 50) session.errors.shift();
    const mean = (column) => session.errors.reduce((sum, row) => sum + row[column], 0) / session.errors.length;
    $("errors").textContent = `Mean absolute error ${session.ahead} frames ahead, last ${session.errors.length} frames: prediction ${mean(0).toFixed(4)}, no change at all ${mean(1).toFixed(4)}.`;
  }

  function receive(session, data) {
    if (typeof data === "string") {
      const { error } = JSON.parse(data);
      if (error) say(error);
      return;
    }
    const view = new DataView(data), count = view.getUint16(4, true);
    session.told = view.getUint32(0, true);
    if (count) {
      session.future = { first: session.told, count, data: new Uint8Array(data, HEADER), shown: 0 };
      session.futures[(session.told - 1) % 256] = session.future;
    }
    const waiting = model.min_context - session.told;
    $("state").textContent = waiting > 0 ? `${waiting} more frames before the first prediction` : `${session.told} frames seen`;
  }

  function loop(session) {
    const future = session.future;
    if (!future) return;
    session.shown = ((session.shown ?? -1) + 1) % future.count;
    session.next.draw(future.data.subarray(size * session.shown, size * (session.shown + 1)));
    session.next.note(`+${session.shown + 1}`);
  }

  function stop() {
    const session = running;
    running = null;
    $("watch").textContent = "Start the camera";
    if (!session) return;
    session.timers.forEach(clearInterval);
    session.socket?.close();
    session.stream?.getTracks().forEach((track) => track.stop());
  }

  $("watch").addEventListener("click", () => {
    if (running) return stop();
    start().catch((error) => { stop(); say(`no camera: ${error.message}`); });
  });
  return { stop };
}
