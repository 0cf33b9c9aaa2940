import { expect, test } from 'vitest';
import { Problem, sentence } from './problem.ts';

test('the reason of a field is the one that the service gave for it', () => {
  const invalid = [
    { name: 'request.look.hdr', reason: 'must be between -10 and 10' },
    { name: 'image', reason: 'cannot be used: the TIFF file is damaged: its strips or tiles overlap' },
  ];
  const problem = new Problem('request.look.hdr must be …; image cannot be …', null, 400, invalid);
  expect(problem.reasonOf('image')).toBe('cannot be used: the TIFF file is damaged: its strips or tiles overlap');
  expect(problem.reasonOf('request.look.hdr')).toBe('must be between -10 and 10');
  expect(problem.reasonOf('request')).toBeNull();
  expect(new Problem('Not Found', null, 404).reasonOf('image')).toBeNull();
});

test('an image is at fault if the service says so, in either form', () => {
  const of = (code: string, name: string) => new Problem('', null, 400, [{ name, reason: 'cannot be used' }], code).ofImage;
  expect([of('invalid_params', 'image'), of('image', ''), of('invalid_params', 'request.size'), of('not_found', '')]).toEqual([true, true, false, false]);
});

test('what the service says begins with a capital letter', () => {
  expect(['the PNG file is damaged', 'Écrit', '', '8 bits', 'junk.pth: is not a model', 'request.size is wrong'].map(sentence)).toEqual(['The PNG file is damaged', 'Écrit', '', '8 bits', 'junk.pth: is not a model', 'request.size is wrong']);
});
