// A clip goes to the service; what it saw loops beside what it predicts.
import { readNpz } from "./npz.js";
import { $, figure, say } from "./page.js";

export function startClip(model) {
  let file = null, asked = null, player = null;

  $("context").value = Math.min(model.context, model.limits.max_context);
  $("context").min = model.min_context;
  for (const [id, most] of [["context", "max_context"], ["horizon", "max_horizon"], ["samples", "max_samples"]]) {
    $(id).max = model.limits[most];
  }
  $("samples-field").hidden = !model.stochastic;

  function choose(chosen) {
    if (!chosen) return;
    file = chosen;
    $("chosen").textContent = `${file.name}, ${(file.size / 1e6).toFixed(2)} MB`;
    $("predict").disabled = false;
    player?.stop();
    $("result").hidden = true;
    say("");
  }
  $("file").addEventListener("change", () => choose($("file").files[0]));
  for (const name of ["dragover", "dragleave", "drop"]) {
    $("drop").addEventListener(name, (event) => {
      event.preventDefault();
      $("drop").classList.toggle("over", name === "dragover");
      if (name === "drop") choose(event.dataTransfer.files[0]);
    });
  }

  // The answer of the service to this file and these arguments; its error is thrown.
  async function request(sent, query, format) {
    const answer = await fetch(`predict?${new URLSearchParams({ ...query, format })}`, { method: "POST", body: sent });
    if (!answer.ok) throw new Error((await answer.json()).error);
    return answer;
  }

  async function busily(button, work) {
    const label = button.textContent;
    [button.disabled, button.textContent] = [true, "…"];
    say("");
    try {
      await work();
    } catch (error) {
      say(error.message);
    } finally {
      [button.disabled, button.textContent] = [false, label];
    }
  }

  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    busily($("predict"), async () => {
      const seed = $("seed").value || Math.floor(Math.random() * 2 ** 31);  // known, so that downloads are the same
      const query = { context: $("context").value, horizon: $("horizon").value, num_samples: $("samples").value, seed };
      const answer = await request(file, query, "npz");
      const buffer = await answer.arrayBuffer();
      asked = { file, query };
      const report = JSON.parse(answer.headers.get("Prediction-Report"));
      player?.stop();
      player = new Player(model, readNpz(buffer), report);
      $("done").textContent = describe(report);
      $("result").hidden = false;
    });
  });

  for (const button of document.querySelectorAll("[data-format]")) {
    button.addEventListener("click", () => busily(button, async () => {
      const format = button.dataset.format;
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await (await request(asked.file, asked.query, format)).blob());
      link.download = `prediction.${format}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    }));
  }
}

function describe(report) {
  const { count, last, stride } = report.used;
  const parts = [`${report.frames} frames of ${report.size[0]} × ${report.size[1]}`];
  parts.push(`seen: ${last - (count - 1) * stride} to ${last}${stride > 1 ? `, every ${stride}th` : ""}`);
  if (report.resized) {
    const [width, height] = report.resized.to, same = report.size[0] * height === report.size[1] * width;
    const done = { stretch: "stretched", crop: "cropped", letterbox: "letterboxed" }[report.resized.fit];
    parts.push(`${same ? "scaled" : done} to ${width} × ${height}`);
  }
  if (report.grey) parts.push("in grey");
  parts.push(`seed ${report.seed}`);
  if (report.note) parts.push(report.note);
  return parts.join("; ");
}

// Loops the context in one picture and the futures beside it, all at one pace.
class Player {
  constructor(model, arrays, report) {
    const shape = model.frame_shape, size = shape[0] * shape[1] * shape[2];
    const frames = ({ data }, from, count) => Array.from({ length: count }, (_, t) => data.subarray(size * (from + t), size * (from + t + 1)));
    const [samples, horizon] = arrays.prediction.shape;
    $("pictures").replaceChildren();
    const seen = frames(arrays.context, 0, arrays.context.shape[0]);
    this.tracks = [{ at: figure($("pictures"), "Seen", true, shape), frames: seen, first: 1 - seen.length }];
    for (let sample = 0; sample < samples; sample++) {
      const name = samples > 1 ? `Future ${sample + 1}` : "Predicted";
      this.tracks.push({ at: figure($("pictures"), name, false, shape), frames: frames(arrays.prediction, sample * horizon, horizon), first: 1 });
    }
    this.horizon = horizon;
    this.pause = 1000 / Math.min(Math.max(report.fps, 2), 30);
    this.time = 0;
    $("moment").max = horizon - 1;
    $("moment").oninput = () => { this.stop(); this.show(Number($("moment").value)); };
    $("play").onclick = () => (this.timer ? this.stop() : this.start());
    this.show(0);
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.start(); else this.stop();
  }

  show(time) {
    this.time = time;
    for (const { at, frames, first } of this.tracks) {
      const index = time % frames.length, number = first + index;
      at.draw(frames[index]);
      at.note(number > 0 ? `+${number}` : `${number}`);
    }
    $("moment").value = time;
    $("count").textContent = `+${time + 1} of ${this.horizon}`;
  }

  start() {
    this.timer = setInterval(() => this.show((this.time + 1) % this.horizon), this.pause);
    $("play").textContent = "Pause";
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    $("play").textContent = "Play";
  }
}
