/** Numbers in the page's language. */

/** The language of `strings.ts`, as a BCP 47 tag. */
export const LOCALE = 'en';

const whole = new Intl.NumberFormat(LOCALE);
const oneDigit = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 1 });
const oneDigitAlways = new Intl.NumberFormat(LOCALE, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const twoFigures = new Intl.NumberFormat(LOCALE, { maximumSignificantDigits: 2 });
const share = new Intl.NumberFormat(LOCALE, { style: 'percent', minimumFractionDigits: 1, maximumFractionDigits: 1 });
const wholeShare = new Intl.NumberFormat(LOCALE, { style: 'percent' });
const signed = new Intl.NumberFormat(LOCALE, { signDisplay: 'exceptZero' });
const plurals = new Intl.PluralRules(LOCALE);

/** "1,024". */
export const count = (n: number) => whole.format(n);
/** "2.5", or "2". */
export const decimal = (n: number) => oneDigit.format(n);
/** "2.5", or "2.0": numbers that stand below each other. */
export const tenths = (n: number) => oneDigitAlways.format(n);
/** "16.7" or "0.62": millions of something, never "0". */
export const millions = (n: number) => (n < 1e6 ? twoFigures : oneDigit).format(n / 1e6);
/** "2.0%" of a share. */
export const percent = (n: number) => share.format(n);
/** "2%" of a share. */
export const wholePercent = (n: number) => wholeShare.format(n);
/** "+3", "−2" with a hyphen, "0". */
export const signedNumber = (n: number) => signed.format(n);

/** The form that a number needs. Languages have other forms than English; each needs at least `other`. */
export const plural = (n: number, forms: Partial<Record<Intl.LDMLPluralRule, string>> & { other: string }) => forms[plurals.select(n)] ?? forms.other;

/** Whether `a` comes before `b` for people: "2.png" before "10.png". */
export const { compare: inOrder } = new Intl.Collator(LOCALE, { numeric: true, sensitivity: 'base' });
