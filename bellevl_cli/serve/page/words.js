"use strict";

/* Every text of the page in Chinese and English. */
const WORDS = {
  zh: {
    add: "添加图片", ask: "就这张图片提问…", askText: "提问，或先放一张图片…", blank: "留空则用模型自己的设置。",
    boxes: "{n} 处已在图中标出", choose: "选择图片", close: "移除这张图片", copied: "已复制", copy: "复制", dialogue: "对话",
    done: "完成", drop: "把图片拖到这里", embedded: "内置的小型演示模型，不是 BELLE-VL-14B",
    failed: "没有回答: {reason}", forgotten: "(上下文已满，最早的 {n} 轮已忘记)", gone: "连接不上 bellevl 服务",
    ideaDescribe: "描述图片", ideaText: "图中有什么文字？", ideaBox: "框出图中的主要物体", length: "(未完: 已到长度上限)",
    local: "图片只在这台机器上处理，刷新页面后对话不保留", looking: "看图", maxTokens: "回答最多多少 token",
    noPicture: "没有图片的对话", notPicture: "{name} 打不开: {reason}", otherLanguage: "English", paste: "也可以直接粘贴 (Ctrl+V)",
    picture: "图片", pictures: "图片列表", release: "松开即可", reset: "恢复默认", retry: "重新回答", send: "发送", settings: "设置",
    speed: "{tokens} token · {seconds} 秒", stop: "停止", stopped: "(已停止)", system: "系统提示词", temperature: "温度 (0 最稳定)",
    theme: "明暗", tokenNeeded: "需要口令: 请用启动时显示的带 #token= 的地址打开", tooLarge: "{name} 超过 64 MB",
    waiting: "排队: 前面还有 {n} 个", thinking: "思考", welcome: "问图里有什么、写着什么、在哪里，可以接着追问。换一张图，就是另一个对话。", foot: "Enter 发送，Shift+Enter 换行，Esc 停止",
  },
  en: {
    add: "Add a picture", ask: "Ask about this picture…", askText: "Ask, or drop a picture first…",
    blank: "Empty fields leave it to the model.", boxes: "{n} places marked in the picture", choose: "Choose a picture",
    close: "Remove this picture", copied: "Copied", copy: "Copy", dialogue: "Dialogue", done: "Done", drop: "Drop a picture here",
    embedded: "the small embedded demonstration model, not BELLE-VL-14B", failed: "No answer: {reason}",
    forgotten: "(window full: the first {n} turns are forgotten)", gone: "bellevl cannot be reached",
    ideaDescribe: "Describe the picture.", ideaText: "What text is in the picture?", ideaBox: "Mark the main objects.",
    length: "(cut at the longest answer)", local: "Pictures stay on this machine; the dialogue is gone when the page is reloaded",
    looking: "Looking", maxTokens: "Longest answer, in tokens", noPicture: "A dialogue without a picture",
    notPicture: "{name} cannot be opened: {reason}", otherLanguage: "中文", paste: "or paste one (Ctrl+V)", picture: "Picture",
    pictures: "Pictures", release: "Let go", reset: "Defaults", retry: "Answer again", send: "Send", settings: "Settings",
    speed: "{tokens} tokens · {seconds} s", stop: "Stop", stopped: "(stopped)", system: "System prompt",
    temperature: "Temperature (0 is steadiest)", theme: "Light or dark",
    tokenNeeded: "A token is needed: open the address with #token= that was shown at the start", tooLarge: "{name} is larger than 64 MB",
    waiting: "Waiting: {n} before this one", thinking: "Thinking",
    welcome: "Ask what is in a picture, what it says, where things are, and go on asking. Another picture is another dialogue.", foot: "Enter sends, Shift+Enter breaks the line, Esc stops",
  },
};

let language = localStorage.getItem("language") || ((navigator.languages || [navigator.language])[0] || "").toLowerCase();
language = language.startsWith("zh") ? "zh" : "en";

/* A text with its gaps filled. */
function say(id, facts = {}) {
  return WORDS[language][id].replace(/\{(\w+)\}/g, (_, name) => facts[name]);
}

/* Writes the texts of every element that asks for one. */
function translate(root = document) {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of root.querySelectorAll("[data-word]")) element.textContent = say(element.dataset.word);
  for (const element of root.querySelectorAll("[data-placeholder]")) element.placeholder = say(element.dataset.placeholder);
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", say(element.dataset.label));
    if (element.tagName === "BUTTON") element.title = say(element.dataset.label);
  }
}
