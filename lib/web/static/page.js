// Sends the page's own forms and puts the answers into it. Without this script the forms work by themselves.
"use strict";

const AT_ONCE = 2; // requests
const TRIES = 6; // of a request that the service sends away for now
const upload = document.getElementById("upload");
const chooser = document.getElementById("files");
const answers = document.getElementById("answers");
const progress = document.getElementById("progress");
const files = new WeakMap(); // answer -> the file it is about
const correcting = new WeakSet(); // answers whose correction is on its way
const explaining = new WeakSet(); // answers whose explanation is on its way
const waiting = [];
let atWork = 0;
let begun = 0;
let finished = 0;

document.documentElement.classList.add("has-script");

function element(html) {
  const holder = document.createElement("template");
  holder.innerHTML = html; // from this service's own templates, which escape what others wrote
  return holder.content;
}

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

// Send a form's fields; the HTML of the answer, which tells of a problem in words.
async function send(action, fields, { extra = {}, headers = {} } = {}) {
  const address = new URL(action, location.href);
  for (const [name, value] of Object.entries({ fragment: "1", ...extra })) address.searchParams.set(name, value);
  for (let tries = 1; ; tries++) {
    const response = await fetch(address, { method: "POST", body: fields, headers });
    const again = [429, 503].includes(response.status) && response.headers.get("Retry-After");
    if (!again || tries === TRIES) return element(await response.text());
    await pause(Math.min(Number(again) || 1, 60));
  }
}

function complaint(text) {
  const said = document.createElement("p");
  said.className = "bad";
  said.setAttribute("role", "alert");
  said.textContent = text;
  return said;
}

async function sendOrSay(...request) {
  try {
    return await send(...request);
  } catch {
    return complaint("The service does not answer; is it still running?");
  }
}

function tellProgress() {
  progress.textContent = finished === begun ? `Looked at: ${begun}.` : `${finished} of ${begun} looked at …`;
  if (finished === begun) begun = finished = 0;
}

// A place for a file's answer, with a preview until it comes.
function placeFor(file) {
  const place = element(
    '<article class="answer waiting"><figure><img alt=""><figcaption></figcaption></figure><div><p>…</p></div></article>'
  ).firstElementChild;
  const image = place.querySelector("img");
  image.src = URL.createObjectURL(file);
  image.onload = image.onerror = () => URL.revokeObjectURL(image.src);
  place.querySelector("figcaption").textContent = file.name;
  return place;
}

async function look(file, place) {
  if (file.size > 1e6 * upload.dataset.megabytes) {
    place.querySelector("div").replaceChildren(complaint(`This file has more than ${upload.dataset.megabytes} MB.`));
    return;
  }
  const fields = new FormData();
  fields.append(chooser.name, file, file.name);
  const told = await sendOrSay(upload.action, fields);
  const answer = told.querySelector?.("article");
  if (answer) {
    files.set(answer, file);
    place.replaceWith(answer);
    const list = told.querySelector("datalist");
    if (list && !document.getElementById(list.id)) answers.after(list);
  } else {
    place.classList.remove("waiting");
    place.querySelector("div").replaceChildren(told, againButton(file, place));
  }
}

function againButton(file, place) {
  const again = document.createElement("button");
  again.type = "button";
  again.textContent = "Try again";
  again.addEventListener("click", () => {
    place.querySelector("div").replaceChildren("…");
    begin([[file, place]]);
  });
  return again;
}

async function work() {
  while (waiting.length && atWork < AT_ONCE) {
    atWork++;
    const [file, place] = waiting.shift();
    look(file, place).finally(() => {
      atWork--;
      finished++;
      tellProgress();
      work();
    });
  }
}

function take(list) {
  const places = [...list].map((file) => [file, placeFor(file)]);
  answers.prepend(...places.map(([, place]) => place));
  begin(places);
}

function begin(places) {
  if (!places.length) return;
  waiting.push(...places);
  begun += places.length;
  tellProgress();
  work();
}

chooser.addEventListener("change", () => {
  take(chooser.files);
  chooser.value = "";
});
upload.addEventListener("submit", (event) => event.preventDefault());

document.addEventListener("paste", (event) => take(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  upload.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) upload.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  upload.classList.remove("over");
  take(event.dataTransfer.files);
});

// Corrections
answers.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const answer = form.closest("article");
  if (correcting.has(answer)) return;
  correcting.add(answer);
  const fields = new FormData(form);
  if (event.submitter?.name) fields.set(event.submitter.name, event.submitter.value);
  const headers = { "Idempotency-Key": `${fields.get("id")}-${Date.now()}` }; // a repetition counts once
  const told = await sendOrSay(form.action, new URLSearchParams(fields), { headers });
  correcting.delete(answer);
  answer.querySelector(".told")?.remove();
  const said = document.createElement("div");
  said.className = "told";
  said.append(told);
  answer.querySelector(".why").before(said);
});

// Why: the same image once more, with explanations, and kept only once
answers.addEventListener("click", async (event) => {
  if (!event.target.classList.contains("explain")) return;
  const answer = event.target.closest("article");
  const why = answer.querySelector(".why");
  const file = files.get(answer);
  if (!file || explaining.has(answer)) return;
  explaining.add(answer);
  const fields = new FormData();
  fields.append(chooser.name, file, file.name);
  const told = await sendOrSay(upload.action, fields, { extra: { explain: "1", log: "false" } });
  explaining.delete(answer);
  const shown = told.querySelector?.(".why");
  if (shown) {
    why.replaceWith(shown);
    shown.focus();
  } else {
    why.append(told);
  }
});

// Camera: a phone brings its own, by the file chooser; other browsers show a viewfinder.
const camera = document.getElementById("camera");
const viewfinder = document.getElementById("viewfinder");
const video = viewfinder.querySelector("video");

function leave() {
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  viewfinder.close();
}

function photographByChooser() {
  const phone = document.createElement("input");
  Object.assign(phone, { type: "file", accept: "image/*" });
  phone.setAttribute("capture", "environment");
  phone.addEventListener("change", () => take(phone.files));
  phone.click();
}

camera.addEventListener("click", async () => {
  if (matchMedia("(pointer: coarse)").matches || !navigator.mediaDevices) return photographByChooser();
  camera.disabled = true; // one question at a time
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch {
    progress.textContent = "There is no camera here that this page may use.";
    return;
  } finally {
    camera.disabled = false;
  }
  viewfinder.showModal();
});
document.getElementById("leave").addEventListener("click", leave);
viewfinder.addEventListener("cancel", leave);
document.getElementById("shoot").addEventListener("click", () => {
  if (!video.videoWidth) return; // no picture yet
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  leave();
  canvas.toBlob((blob) => take([new File([blob], "photo.jpg", { type: "image/jpeg" })]), "image/jpeg", 0.9);
});
