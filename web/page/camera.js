// Taking a picture with the camera, in a dialog.

/** Asks for a picture. Returns an ImageBitmap, or null if the user wants none. */
export async function takePicture(dialog) {
  const video = dialog.querySelector("video");
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: false,
    video: { facingMode: "environment", width: { ideal: 1920 }, height: { ideal: 1080 } },
  });
  try {
    video.srcObject = stream;
    dialog.returnValue = "";
    dialog.showModal();
    await video.play();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    return dialog.returnValue === "take" ? await createImageBitmap(video) : null;
  } finally {
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
    if (dialog.open) dialog.close();
  }
}

/** Says in words why there is no picture. */
export function cameraError(error) {
  if (error.name === "NotAllowedError")
    return "The camera may not be used: allow it in the browser.";
  if (error.name === "NotFoundError") return "No camera was found.";
  return `The camera gives no picture: ${error.message || error.name}.`;
}

/** Whether there can be a camera: browsers give it to this machine's own and to https pages only. */
export function hasCamera() {
  return Boolean(navigator.mediaDevices?.getUserMedia);
}
