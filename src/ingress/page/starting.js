
"use strict";
const steps = [...document.querySelectorAll("[data-step]")];
const state = document.getElementById("state");
const first = state.textContent;
const again = (seconds) => setTimeout(() => location.reload(), seconds * 1000);
const source = new EventSource("/.tenantd/wake");
source.addEventListener("step", ({ data }) => {
  const now = steps.findIndex((step) => step.dataset.step === data);
  steps.forEach((step, at) => {
    step.className = at < now ? "done" : at === now ? "now" : "";
    step.toggleAttribute("aria-current", at === now);
  });
  state.textContent = data === "waiting" ? "It waits until the host has memory for it." : first;
  if (data === "ready") {
    source.close();
    location.reload();
  }
});
source.addEventListener("refused", ({ data }) => {
  source.close();
  state.textContent = data;
  again(10);
});
source.addEventListener("error", () => {
  if (source.readyState === EventSource.CLOSED) again(5);
});
