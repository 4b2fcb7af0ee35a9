// SPDX-License-Identifier: MIT
// Runs the tests of .ci/wasi_app.py in Pyodide: node pyodide.mjs FOLDER_OF_PYODIDE FOLDER,
// where FOLDER holds vwo_push.py and wasi_app.py.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [pyodide, folder] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${pyodide}/pyodide.mjs`));
const python = await loadPyodide();
for (const name of ["vwo_push.py", "wasi_app.py"]) {
  python.FS.writeFile(`/home/pyodide/${name}`, readFileSync(`${folder}/${name}`));
}
python.runPython(`
import sys
sys.path.insert(0, "/home/pyodide")
import wasi_app
wasi_app.run()
`);
