// The API's own description, as a page.

import { call } from "./api.js";
import { byId, el } from "./dom.js";

/**
 * @param {any} schema
 * @returns {string}
 */
function type(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(type).join(" or ");
  if (schema.enum) return schema.enum.map((/** @type {unknown} */ value) => JSON.stringify(value)).join(" or ");
  if (schema.prefixItems) return `[${schema.prefixItems.map(type).join(", ")}]`;
  if (schema.type === "array") return `list of ${type(schema.items)}`;
  return schema.format === "binary" ? "the content" : (schema.type ?? "anything");
}

/**
 * @param {string} method
 * @param {string} path
 * @param {any} route
 */
function operation(method, path, route) {
  const rows = (route.parameters ?? []).map((/** @type {any} */ parameter) =>
    el("tr", {}, el("td", {}, el("code", {}, parameter.name)), el("td", {}, `${type(parameter.schema)}, in the ${parameter.in}`), el("td", {}, parameter.description ?? "")));
  for (const [media, content] of Object.entries(route.requestBody?.content ?? {})) {
    rows.push(el("tr", {}, el("td", {}, "body"), el("td", {}, type(/** @type {any} */ (content).schema)), el("td", {}, media)));
  }
  const answers = Object.entries(route.responses)
    .filter(([status]) => status < "400")
    .map(([status, answer]) => `${status}: ${Object.entries(/** @type {any} */ (answer).content ?? {}).map(([media, content]) => `${type(/** @type {any} */ (content).schema)} (${media})`).join(", ") || "nothing"}`);
  return el("section", { class: "card route" },
    el("h2", {}, el("span", { class: `method ${method}` }, method.toUpperCase()), " ", el("code", {}, path)),
    el("p", {}, route.description ?? route.summary ?? ""),
    rows.length ? el("div", { class: "scroll" }, el("table", {}, ...rows)) : null,
    el("p", { class: "soft" }, `Gives ${answers.join("; ")}`));
}

/**
 * @param {string} name
 * @param {any} schema
 */
function record(name, schema) {
  const fields = Object.entries(schema.properties ?? {}).map(([field, about]) =>
    el("tr", {}, el("td", {}, el("code", {}, field)), el("td", {}, type(about)), el("td", {}, /** @type {any} */ (about).description ?? "")));
  return el("section", { class: "card route" }, el("h3", {}, name), el("p", {}, schema.description ?? ""), el("div", { class: "scroll" }, el("table", {}, ...fields)));
}

const response = await fetch("/openapi.json", { credentials: "same-origin" });
if (response.ok) {
  const api = await response.json();
  byId("routes", HTMLElement).append(
    ...Object.entries(api.paths).flatMap(([path, methods]) => Object.entries(/** @type {any} */ (methods)).map(([method, route]) => operation(method, path, route))));
  byId("schemas", HTMLElement).append(...Object.entries(api.components.schemas).map(([name, schema]) => record(name, schema)));
  const about = /** @type {import("./api.js").About} */ (await call("/about"));
  byId("library-link", HTMLElement).hidden = !about.has_library;
} else {
  byId("routes", HTMLElement).append(el("p", { class: "alert" }, "Open the first page and give the token; then this one shows the API."));
}
