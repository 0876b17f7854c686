"use strict";

/* A question on its way: to the server as the API takes it, and its stream back into the turn. */

async function ask(question) {
  if (running || !question.trim()) return;
  if (!current) {
    threads.push({id: String(Math.random()), name: "", turns: [], draft: ""});
    $("question").value = "";
    show(threads.at(-1));
  }
  const thread = current, turn = {question: question.trim(), raw: "", state: "running", began: Date.now(), ahead: 0};
  thread.turns.push(turn);
  $("question").value = thread.draft = "";
  grow();
  await run(thread, turn);
}

function again(turn) {
  if (running || turn !== current.turns.at(-1)) return;
  Object.assign(turn, {raw: "", state: "running", began: Date.now(), ahead: 0, error: null, notes: [], usage: null});
  run(current, turn);
}

async function run(thread, turn) {
  const stopper = new AbortController();
  running = {thread, turn, stopper};
  shownTurn = turn;
  showDialogue();
  showBoxes();
  const clock = setInterval(() => { if (!turn.raw) update(thread, turn); }, 1000);
  try {
    await stream(thread, turn, stopper.signal);
    turn.state = "done";
  } catch (error) {
    turn.state = "done";
    if (stopper.signal.aborted) turn.notes = [say("stopped")];
    else turn.error = say("failed", {reason: error instanceof TypeError ? say("gone") : error.message});
  }
  clearInterval(clock);
  running = null;
  turn.seconds = (Date.now() - turn.began) / 1000;
  update(thread, turn);
  showSend();
}

let drawing = false;
function update(thread, turn) {
  if (thread !== current || drawing) return;
  drawing = true;
  setTimeout(() => {
    drawing = false;
    if (thread !== current || !turn.element) return;
    const log = $("log"), follows = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    showTurn(turn);
    if (turn === shownTurn) showBoxes();
    if (follows) log.scrollTop = log.scrollHeight;
  }, 40);
}

async function stream(thread, turn, signal) {
  const body = {
    model: "bellevl", stream: true, stream_options: {include_usage: true}, messages: messages(thread),
    max_tokens: settings.maxTokens ?? undefined, temperature: settings.temperature ?? undefined,
  };
  const answer = await fetch("v1/chat/completions", {
    method: "POST", signal, headers: headers({"Content-Type": "application/json"}), body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(answer.status === 401 ? say("tokenNeeded") : (await answer.json()).error.message);
  const reader = answer.body.getReader(), decoder = new TextDecoder();
  let held = "";
  for (;;) {
    const {value, done} = await reader.read();
    held += decoder.decode(value, {stream: !done});
    const events = held.split("\n\n");
    held = events.pop();
    for (const event of events) take(turn, event);
    update(thread, turn);
    if (done) return;
  }
}

function take(turn, event) {
  const waiting = /^: waiting (\d+)/.exec(event);
  if (waiting) turn.ahead = Number(waiting[1]);
  if (!event.startsWith("data: ") || event === "data: [DONE]") return;
  const chunk = JSON.parse(event.slice(6));
  if (chunk.error) throw new Error(chunk.error.message);
  if (chunk.usage) turn.usage = chunk.usage;
  const choice = chunk.choices[0];
  if (!choice) return;
  if (choice.delta.content) turn.ahead = 0;
  turn.raw += choice.delta.content || "";
  if (choice.finish_reason === "length") turn.notes = [say("length")];
  const forgotten = chunk.bellevl?.forgotten_turns;
  if (forgotten) turn.notes = [...(turn.notes || []), say("forgotten", {n: forgotten})];
}

/* The dialogue as the API takes it: the picture with its first question. Questions without an answer are left out. */
function messages(thread) {
  const result = settings.system ? [{role: "system", content: settings.system}] : [];
  const turns = thread.turns.filter((turn, at) => turn.raw || at === thread.turns.length - 1);
  turns.forEach((turn, at) => {
    const picture = at === 0 && thread.data ? [{type: "image_url", image_url: {url: thread.data}}] : [];
    result.push({role: "user", content: [...picture, {type: "text", text: turn.question}]});
    if (at < turns.length - 1) result.push({role: "assistant", content: turn.raw});
  });
  return result;
}

function stop() {
  running?.stopper.abort();
}
