/** Which of several files make up a model. */

const ending = (name: string) => name.replace(/^.*\./s, '').toLowerCase();
const stem = (name: string) => name.replace(/\.[^.]*$/s, '').toLowerCase();

/**
 * One group for each model: a file, or the .param and .bin of ncnn, which belong together by name. If there is just one of each,
 * they belong together whatever their names.
 */
export function modelsOf<T extends { name: string }>(files: readonly T[]): T[][] {
  const of = (kind: string) => files.filter((file) => ending(file.name) === kind);
  const [params, bins] = [of('param'), of('bin')];
  const only = params.length === 1 && bins.length === 1;
  const paired = new Map(params.map((param) => [param, bins.find((bin) => only || stem(bin.name) === stem(param.name))]));
  const taken = new Set([...paired.values()]);
  return files
    .filter((file) => !taken.has(file))
    .map((file) => {
      const bin = paired.get(file);
      return bin ? [file, bin] : [file];
    });
}
