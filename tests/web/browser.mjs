// Chromium for `browser.py`: a command as JSON in each line of stdin, an answer as JSON in
// each line of stdout.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import readline from "node:readline";
import { chromium } from "playwright-core";

const [executablePath, graphics] = process.argv.slice(2);
const args = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
args.push("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream");
args.push(
  ...(graphics === "webgpu"
    ? ["--enable-unsafe-webgpu", "--enable-features=Vulkan", "--use-webgpu-adapter=swiftshader", "--ignore-gpu-blocklist"]
    : ["--disable-gpu"]),
);
const profile = fs.mkdtempSync(path.join(os.tmpdir(), "vit-web-"));
const context = await chromium.launchPersistentContext(profile, { executablePath, headless: true, args });
let page = null;
let messages = []; // errors and warnings of the page

const commands = {
  async open({ url, width, height, scheme }) {
    await page?.close();
    messages = [];
    page = await context.newPage();
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) messages.push(`${message.type()}: ${message.text()}`);
    });
    page.on("pageerror", (error) => messages.push(`page: ${error}`));
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme: scheme });
    await page.goto(url);
  },
  // Requests to other servers, answered with files: {address: path}.
  async route({ files }) {
    await context.unrouteAll();
    await context.route(/^https:/, (route) => {
      const file = files[route.request().url()];
      if (!file) return route.abort();
      const headers = { "Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin" };
      return route.fulfill({ path: file, headers });
    });
  },
  evaluate: ({ code }) => page.evaluate(code),
  wait: ({ code, seconds }) => page.waitForFunction(code, null, { timeout: 1000 * seconds }).then(() => null),
  choose: ({ file }) => page.setInputFiles("input[type=file]", file),
  press: ({ key }) => page.keyboard.press(key),
  // Presses a key that opens the system's dialogue, and chooses a file in it.
  async pressAndChoose({ key, file }) {
    const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.keyboard.press(key)]);
    await chooser.setFiles(file);
  },
  select: ({ selector, value }) => page.selectOption(selector, value).then(() => null),
  click: ({ selector }) => page.click(selector),
  screenshot: ({ file, ...options }) => page.screenshot({ path: file, ...options }).then(() => null),
  messages: () => messages,
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { command, ...options } = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await commands[command](options)) ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await context.close();
fs.rmSync(profile, { recursive: true, force: true });
