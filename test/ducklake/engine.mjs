// Node's --import: whoever asks for the engine, by its name or by its file, gets the one of this folder.
import { registerHooks } from 'node:module'

const engine = import.meta.resolve('@duckdb/node-api')
registerHooks({
  resolve: (name, context, next) =>
    next(/[@/]duckdb\/node-api(\/lib\/index\.js)?$/.test(name) ? engine : name, context),
})
