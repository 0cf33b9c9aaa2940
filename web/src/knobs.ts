/** The knobs of `crates/enlarger-pipeline/src/request.rs`; `make specification` writes this file. */
export const KNOBS = {
  creative: [
    { name: 'creativity', title: 'Creativity', help: 'How much new detail to add. Lower values add less.', min: -10, max: 10, default: 0 },
    { name: 'hdr', title: 'HDR', help: 'Definition and local contrast. High values look artificial.', min: -10, max: 10, default: 0 },
    { name: 'resemblance', title: 'Resemblance', help: 'How closely the result follows the original.', min: -10, max: 10, default: 0 },
    { name: 'fractality', title: 'Fractality', help: 'How fine the added texture is. Lower values cause fewer artifacts.', min: -10, max: 10, default: 0 },
  ],
  precision: [
    { name: 'sharpen', title: 'Sharpen', help: 'How crisp edges are.', min: 0, max: 100, default: 7 },
    { name: 'smart_grain', title: 'Smart grain', help: 'Fine grain that keeps surfaces from looking plastic.', min: 0, max: 100, default: 7 },
    { name: 'ultra_detail', title: 'Ultra detail', help: 'How strongly the finest details are emphasized.', min: 0, max: 100, default: 30 },
  ],
} as const;
