// What this page is: the model's facts, the choice of a source, and where errors are shown.
import { startClip } from "./clip.js";
import { startCamera } from "./camera.js";

export const $ = (id) => document.getElementById(id);

export function say(error) {
  $("error").textContent = error;
  $("error").hidden = !error;
}

// A figure with a canvas of the model's frame size; returns functions that draw into it and caption it.
export function figure(parent, name, seen, [height, width, channels]) {
  const element = document.createElement("figure");
  element.className = seen ? "seen" : "next";
  const caption = element.appendChild(document.createElement("figcaption"));
  caption.append(name);
  const note = caption.appendChild(document.createElement("span"));
  const canvas = element.appendChild(document.createElement("canvas"));
  [canvas.width, canvas.height] = [width, height];
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", name);
  parent.append(element);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  return {
    draw(bytes) {
      for (let pixel = 0; pixel < width * height; pixel++) {
        for (let c = 0; c < 3; c++) image.data[4 * pixel + c] = bytes[channels * pixel + (channels === 3 ? c : 0)];
        image.data[4 * pixel + 3] = 255;
      }
      context.putImageData(image, 0, 0);
    },
    note(text) { note.textContent = text; },
  };
}

function facts(model) {
  const [height, width, channels] = model.frame_shape;
  const shown = {
    Model: model.model,
    Frames: `${width} × ${height}, ${channels === 1 ? "grey" : "colour"}`,
    Context: `${model.context} frames, at least ${model.min_context}`,
    Futures: model.stochastic ? "many, drawn" : "one",
    Parameters: model.parameters?.toLocaleString("en") ?? "?",
  };
  for (const [name, value] of Object.entries(shown)) {
    const group = $("facts").appendChild(document.createElement("div"));
    group.appendChild(document.createElement("dt")).textContent = name;
    group.appendChild(document.createElement("dd")).textContent = value;
  }
}

async function start() {
  const model = await (await fetch("model")).json();
  facts(model);
  startClip(model);
  const camera = startCamera(model);
  for (const choice of document.querySelectorAll("[name=source]")) {
    const show = () => {
      if (!choice.checked) return;
      say("");
      $("clip").hidden = choice.value !== "clip";
      $("camera").hidden = choice.value !== "camera";
      if (choice.value !== "camera") camera.stop();
    };
    choice.addEventListener("change", show);
    show();
  }
}

start().catch((error) => say(`the service does not answer (${error.message}); is it running?`));
