// What every part of the page needs of the document.

export const $ = (id) => document.getElementById(id);

/** @param {string} id of a template. @returns {Element} a copy of the one element in it. */
export function copyOf(id) {
  return $(id).content.firstElementChild.cloneNode(true);
}

/** @param {Element} root @param {string} name of a data-part inside it */
export function part(root, name) {
  return root.querySelector(`[data-part="${name}"]`);
}

/** Minutes and seconds, as players show them. */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** Set only what differs: a live region would say it again. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Put text on the clipboard, or select it for the visitor where a page may not. @returns {Promise<boolean>} */
export async function copy(text, shownIn) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(shownIn);
    return false;
  }
}

/** Hand a file to the visitor. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser has long begun to write it
}
