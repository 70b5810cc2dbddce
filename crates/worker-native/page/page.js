// The worker's page. It shows the state from the worker's stream, and sends the person's commands to the worker.

const $ = (id) => document.getElementById(id);

// ---- Commands ----

/** Sends a wish; returns what is wrong with it, or nothing. */
async function tell(what, body) {
  const json = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  try {
    const answer = await fetch(what, body === undefined ? { method: "POST" } : json);
    return answer.ok ? "" : (await answer.text()) || `The worker answered ${answer.status}.`;
  } catch {
    return "The worker does not answer.";
  }
}

function show(element, text) {
  element.textContent = text;
  if (element.classList.contains("notice")) element.hidden = !text;
}

for (const wish of ["pause", "resume", "finish", "leave", "quit"]) {
  $(wish).addEventListener("click", async () => show($("problem"), await tell(wish)));
}

async function join(link, code) {
  const problem = await tell("join", { link, code });
  show($("join-problem"), problem);
  // An address without a code is valid: the code is asked for next.
  if (problem.includes("code of the session is missing")) {
    $("code-part").hidden = false;
    $("code").focus();
  }
  if (!problem) $("link").value = $("code").value = "";
}

$("join-form").addEventListener("submit", (event) => {
  event.preventDefault();
  join($("link").value, $("code").value);
});

// A link with which the program was started again while this instance was running.
function takeLink() {
  const link = decodeURIComponent(location.hash.slice(1));
  if (!link) return;
  history.replaceState(null, "", location.pathname);
  $("link").value = link;
  $("join-form").scrollIntoView();
  $("link").focus();
}
addEventListener("hashchange", takeLink);

// ---- The camera ----

const LOOKED_EVERY_MILLIS = 200;
let stream = null;

function closeCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  $("camera").hidden = true;
}

$("scan-end").addEventListener("click", closeCamera);
$("scan").addEventListener("click", async () => {
  const knows = "BarcodeDetector" in window && (await BarcodeDetector.getSupportedFormats()).includes("qr_code");
  if (!knows) {
    show($("join-problem"), "This browser cannot read QR codes; paste the link, or scan it with a phone and send it here.");
    return;
  }
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    show($("join-problem"), `There is no picture from a camera: ${error.message}`);
    return;
  }
  show($("join-problem"), "");
  const [picture, detector] = [$("picture"), new BarcodeDetector({ formats: ["qr_code"] })];
  picture.srcObject = stream;
  $("camera").hidden = false;
  await picture.play();
  while (stream) {
    const [found] = await detector.detect(picture).catch(() => []);
    if (found && stream) {
      closeCamera();
      await join(found.rawValue, "");
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, LOOKED_EVERY_MILLIS));
  }
});

// ---- Manners ----

const CHECKS = ["low_priority", "only_when_idle", "not_on_battery", "not_on_metered"];
let manners = {};

function showManners(now) {
  manners = now;
  const form = $("manners");
  const put = (id, value) => {
    // A control that the person is editing is not overwritten.
    if (document.activeElement !== $(id)) $(id).value = value;
  };
  for (const id of CHECKS) $(id).checked = now[id];
  put("max_cpu", now.max_cpu);
  put("idle_minutes", now.idle_minutes);
  put("schedule", now.schedule.join(", "));
  put("max_bytes_per_day", now.max_bytes_per_day ?? "");
  put("max_temperature", now.max_temperature ?? "");
  if (!form.contains(document.activeElement)) $("max_cpu_said").textContent = `${now.max_cpu} %`;
}

function wantedManners() {
  const wanted = { max_cpu: Number($("max_cpu").value), idle_minutes: Number($("idle_minutes").value) };
  for (const id of CHECKS) wanted[id] = $(id).checked;
  wanted.schedule = $("schedule").value.split(",").map((text) => text.trim()).filter(Boolean);
  if ($("max_bytes_per_day").value.trim()) wanted.max_bytes_per_day = $("max_bytes_per_day").value.trim();
  if ($("max_temperature").value) wanted.max_temperature = Number($("max_temperature").value);
  return wanted;
}

$("max_cpu").addEventListener("input", () => ($("max_cpu_said").textContent = `${$("max_cpu").value} %`));
$("manners").addEventListener("change", async () => show($("manners-problem"), await tell("manners", wantedManners())));
$("manners").addEventListener("submit", (event) => event.preventDefault());

// ---- State ----

/** Makes an element with text or other elements in it. */
function make(name, className, ...content) {
  const element = document.createElement(name);
  element.className = className;
  element.append(...content);
  return element;
}

function lane({ state, device, jobs }) {
  const tracks = jobs.flatMap(({ label, stage, fraction }) => {
    const done = make("span", "bar-done");
    done.style.width = `${100 * fraction}%`;
    const percent = `${stage} · ${Math.round(100 * fraction)} %`;
    return [make("p", "track", label), make("p", "track-stage", percent), make("div", "bar", done)];
  });
  return make("div", "lane", make("p", "", state), make("p", "hint", device), ...tracks);
}

function coordinator({ address, code }) {
  const [again, forget] = [make("button", "quiet", "Join"), make("button", "quiet danger", "Forget")];
  again.setAttribute("aria-label", `Join ${address} again`);
  forget.setAttribute("aria-label", `Forget ${address}`);
  again.addEventListener("click", () => join(address, code));
  forget.addEventListener("click", async () => show($("problem"), await tell("forget", { address })));
  return make("li", "", make("span", "", address), make("span", "buttons", again, forget));
}

let shownCoordinators = "";

function showView(view) {
  const { session, keeper, devices } = view;
  const isRunning = keeper.state === "running";
  const words = { work: "Working", finish: "Finishing", stop: "Stopping" };
  const idle = devices ? "Waiting for you" : "Starting";
  const badge = view.is_quitting ? "Ending" : !isRunning ? "Paused" : session ? words[session.order] : idle;
  show($("badge"), badge);
  $("badge").className = `badge badge-${!isRunning ? "paused" : session ? "running" : "idle"}`;
  const reasons = isRunning ? "" : keeper.state.replace(/^paused: /, "");
  show($("state"), [session && `for ${session.address}`, reasons].filter(Boolean).join("; "));
  $("lanes").replaceChildren(...view.lanes.map(lane));
  show($("done"), String(view.done));
  show($("failed"), view.failed ? `tracks done, ${view.failed} failed` : "tracks done");
  show($("rate"), session ? ` · ${view.tracks_per_minute.toFixed(1)} a minute` : "");
  show($("end"), view.end ?? "");
  $("pause").hidden = keeper.is_paused;
  $("resume").hidden = !keeper.is_paused;
  $("finish").hidden = session?.order !== "work";
  $("leave").hidden = !session || session.order === "stop";

  show($("devices"), devices ? devices.names.join(" and ") : "Finding out what to compute on…");
  show($("speeds"), devices?.speeds ?? "");
  show($("note"), devices?.note ?? "");
  showManners(keeper.manners);
  show($("today"), `${(keeper.bytes_today / 1e6).toFixed(1)} MB fetched today`);
  show($("log"), view.log.join("\n"));
  show($("version"), view.version);

  const known = JSON.stringify(view.coordinators);
  if (known !== shownCoordinators) {
    shownCoordinators = known;
    $("known").hidden = view.coordinators.length === 0;
    $("coordinators").replaceChildren(...view.coordinators.map(coordinator));
  }
}

const views = new EventSource("views");
views.addEventListener("message", (event) => {
  $("gone").hidden = true;
  showView(JSON.parse(event.data));
});
// The browser reconnects by itself. A restarted worker has another address.
views.addEventListener("error", () => ($("gone").hidden = false));
takeLink();
