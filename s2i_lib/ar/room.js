// Shows an equirectangular picture from its middle: in the page, and in WebXR for each eye.
'use strict';
(() => {
  const canvas = document.getElementById('room'), image = document.getElementById('picture');
  const gl = canvas.getContext('webgl2', { xrCompatible: true });
  const state = { yaw: 0, pitch: 0, frames: 0, xrFrames: 0, session: null };
  window.room = state;
  if (!gl) {
    image.hidden = false;
    image.style.width = '100%';
    return;
  }

  // One triangle covers the window; each pixel asks in which direction it looks.
  const VERTEX = `#version 300 es
    uniform mat4 toWorld; out vec3 direction;
    void main() {
      vec2 at = vec2(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0);
      direction = (toWorld * vec4(at, 1.0, 1.0)).xyz;
      gl_Position = vec4(at, 0.0, 1.0);
    }`;
  const FRAGMENT = `#version 300 es
    precision highp float;
    uniform sampler2D picture; in vec3 direction; out vec4 colour;
    void main() {
      vec3 to = normalize(direction);
      vec2 at = vec2(atan(to.x, -to.z) / 6.2831853 + 0.5, acos(clamp(to.y, -1.0, 1.0)) / 3.1415927);
      colour = textureLod(picture, at, 0.0);
    }`;
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  const place = gl.getUniformLocation(program, 'toWorld');

  const upload = () => {
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, image);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.REPEAT);  // the edges meet
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    draw();
  };

  const show = (toWorld) => {
    gl.uniformMatrix4fv(place, false, toWorld);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  };

  // What turns a place in the window into a direction: the window's slopes, then pitch and yaw.
  const look = (yaw, pitch, across, up) => {
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    return new Float32Array([
      across * cy, 0, across * sy, 0,
      -up * sy * sp, up * cp, up * cy * sp, 0,
      0, 0, 0, 0,
      sy * cp, sp, -cy * cp, 1,
    ]);
  };

  function draw() {
    if (state.session) return;
    const [wide, high] = [canvas.clientWidth, canvas.clientHeight].map((n) => Math.round(n * devicePixelRatio));
    if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
    gl.viewport(0, 0, wide, high);
    const up = Math.tan(0.65);  // half of 75 degrees
    show(look(state.yaw, state.pitch, (up * wide) / high, up));
    state.frames += 1;
  }

  const turn = (yaw, pitch) => {
    state.yaw += yaw;
    state.pitch = Math.max(-1.4, Math.min(1.4, state.pitch + pitch));
    requestAnimationFrame(draw);
  };
  canvas.addEventListener('pointermove', (event) => {
    if (event.buttons) turn(-event.movementX * 0.004, event.movementY * 0.004);
  });
  canvas.addEventListener('keydown', (event) => {
    const keys = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
    if (!keys[event.key]) return;
    event.preventDefault();
    turn(...keys[event.key]);
  });
  addEventListener('resize', () => requestAnimationFrame(draw));

  // ---- A phone that is turned ----

  const tilt = document.getElementById('tilt');
  if (window.DeviceOrientationEvent && matchMedia('(pointer: coarse)').matches) tilt.hidden = false;
  tilt.addEventListener('click', async () => {
    const ask = DeviceOrientationEvent.requestPermission;  // iPhones want to be asked
    if (ask && (await ask.call(DeviceOrientationEvent)) !== 'granted') return;
    let first = null;
    addEventListener('deviceorientation', ({ alpha, beta }) => {
      if (alpha === null) return;
      first ??= alpha;
      state.yaw = ((first - alpha) * Math.PI) / 180;
      state.pitch = Math.max(-1.4, Math.min(1.4, ((beta - 90) * Math.PI) / 180));
      requestAnimationFrame(draw);
    });
  });

  // ---- WebXR: for each eye, what its own projection and turn say; nobody walks in a picture ----

  const inverse = (m) => {  // of a projection, which has few numbers
    const [a, b, c, d, e] = [m[0], m[5], m[8], m[9], m[14]];
    return [1 / a, 0, 0, 0, 0, 1 / b, 0, 0, 0, 0, 0, 1 / e, c / a, d / b, -1, m[10] / e];
  };
  const times = (one, other) => {
    const out = new Float32Array(16);
    for (let c = 0; c < 4; c++)
      for (let r = 0; r < 4; r++)
        for (let k = 0; k < 4; k++) out[c * 4 + r] += one[k * 4 + r] * other[c * 4 + k];
    return out;
  };
  const enter = document.getElementById('enter');
  const offer = async () => {
    if (await navigator.xr?.isSessionSupported('immersive-vr').catch(() => false)) enter.hidden = false;
  };
  enter.addEventListener('click', async () => {
    const session = await navigator.xr.requestSession('immersive-vr');
    await gl.makeXRCompatible();
    session.updateRenderState({ baseLayer: new XRWebGLLayer(session, gl) });
    const space = await session.requestReferenceSpace('local');
    state.session = session;
    session.addEventListener('end', () => {
      state.session = null;
      gl.bindFramebuffer(gl.FRAMEBUFFER, null);
      requestAnimationFrame(draw);
    });
    const frame = (_, now) => {
      session.requestAnimationFrame(frame);
      const pose = now.getViewerPose(space), layer = session.renderState.baseLayer;
      if (!pose) return;
      gl.bindFramebuffer(gl.FRAMEBUFFER, layer.framebuffer);
      for (const view of pose.views) {
        const { x, y, width, height } = layer.getViewport(view);
        gl.viewport(x, y, width, height);
        const turned = Float32Array.from(view.transform.matrix);
        turned[12] = turned[13] = turned[14] = 0;
        show(times(turned, inverse(view.projectionMatrix)));
      }
      state.xrFrames += 1;
    };
    session.requestAnimationFrame(frame);
  });

  if (image.complete) upload();
  else image.addEventListener('load', upload);
  offer();
})();
