/* A JPEG stream to rows of samples, by libjpeg-turbo. In C, because libjpeg reports errors by a call that must not return. */

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

/* These mirror codec.rs. */
enum { DONE, FAILED, NO_MEMORY };
enum { BY_MARKERS, AS_STORED };
enum { DATA_MISSING = 1, DATA_WRONG = 2, OUT_OF_STEP = 4, STRAY_IN_INTERVAL = 8 };

struct order {
    const unsigned char *bytes;
    size_t length;
    /* What the frame must be. */
    uint32_t width, height, components, precision;
    /* BY_MARKERS or AS_STORED. */
    uint32_t colours;
    uint32_t most_scans;
    /* Asked now and then whether to stop. */
    int (*cancelled)(const void *context);
    const void *context;
    /* width * height * components samples: of 8 bits where the precision is at most 8, of 16 elsewhere. */
    void *samples;
};

struct report {
    uint32_t warnings;
    /* Bytes behind the last one that was taken for a sample. */
    size_t unread;
    char message[JMSG_LENGTH_MAX];
};

struct decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    const struct order *order;
    struct report *report;
    int status;
};

static void fail(struct decoder *d, const char *why) {
    d->status = FAILED;
    snprintf(d->report->message, sizeof d->report->message, "%s", why);
    longjmp(d->failed, 1);
}

static void on_error(j_common_ptr jpeg) {
    struct decoder *d = jpeg->client_data;
    d->status = d->errors.msg_code == JERR_OUT_OF_MEMORY ? NO_MEMORY : FAILED;
    d->errors.format_message(jpeg, d->report->message);
    longjmp(d->failed, 1);
}

static void on_message(j_common_ptr jpeg, int level) {
    struct decoder *d = jpeg->client_data;
    if (level >= 0) return;
    switch (d->errors.msg_code) {
    case JWRN_HIT_MARKER:
        d->report->warnings |= DATA_MISSING;
        break;
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
        d->report->warnings |= DATA_WRONG;
        break;
    case JWRN_MUST_RESYNC:
        d->report->warnings |= OUT_OF_STEP;
        break;
    case JWRN_EXTRANEOUS_DATA:
        if (d->errors.msg_parm.i[1] >= 0xD0 && d->errors.msg_parm.i[1] <= 0xD7) d->report->warnings |= STRAY_IN_INTERVAL;
        break;
    /* The others are about headers, or about the end of the file, which is no fault once all samples are there. */
    default:
        break;
    }
}

static void on_progress(j_common_ptr jpeg) {
    struct decoder *d = jpeg->client_data;
    if ((uint32_t)d->jpeg.input_scan_number > d->order->most_scans) fail(d, "it has far more scans than any picture needs");
    if (d->order->cancelled(d->order->context)) fail(d, "decoding was cancelled");
}

static void decode(struct decoder *d) {
    const struct order *order = d->order;
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    if (setjmp(d->failed)) return;

    jpeg->err = jpeg_std_error(&d->errors);
    d->errors.error_exit = on_error;
    d->errors.emit_message = on_message;
    jpeg->client_data = d;
    jpeg_create_decompress(jpeg);
    d->progress.progress_monitor = on_progress;
    jpeg->progress = &d->progress;

    jpeg_mem_src(jpeg, order->bytes, (unsigned long)order->length);
    jpeg_read_header(jpeg, TRUE);
    if (jpeg->image_width != order->width || jpeg->image_height != order->height ||
        (uint32_t)jpeg->num_components != order->components || (uint32_t)jpeg->data_precision != order->precision)
        fail(d, "its headers contradict each other");

    if (order->colours == AS_STORED) {
        jpeg->jpeg_color_space = jpeg->out_color_space = JCS_UNKNOWN;
    } else {
        /* Inks stay inks: libjpeg's own way to RGB knows no profile. */
        jpeg->out_color_space = order->components == 1 ? JCS_GRAYSCALE : order->components == 3 ? JCS_RGB : JCS_CMYK;
    }
    jpeg_start_decompress(jpeg);
    if ((uint32_t)jpeg->output_components != order->components) fail(d, "its headers contradict each other");

    size_t row = (size_t)order->width * order->components;
    while (jpeg->output_scanline < jpeg->output_height) {
        if (order->precision <= 8) {
            JSAMPROW to = (JSAMPROW)order->samples + row * jpeg->output_scanline;
            jpeg_read_scanlines(jpeg, &to, 1);
        } else if (order->precision <= 12) {
            J12SAMPROW to = (J12SAMPROW)order->samples + row * jpeg->output_scanline;
            jpeg12_read_scanlines(jpeg, &to, 1);
        } else {
            J16SAMPROW to = (J16SAMPROW)order->samples + row * jpeg->output_scanline;
            jpeg16_read_scanlines(jpeg, &to, 1);
        }
    }
    /* Past its end, the source gives an end mark of its own, which is elsewhere. */
    uintptr_t start = (uintptr_t)order->bytes, at = (uintptr_t)jpeg->src->next_input_byte;
    d->report->unread = at >= start && at <= start + order->length ? order->length - (at - start) : 0;
    d->status = DONE;
}

int enlarger_jpeg_decode(const struct order *order, struct report *report) {
    struct decoder d;
    memset(&d, 0, sizeof d);
    memset(report, 0, sizeof *report);
    d.order = order;
    d.report = report;
    decode(&d);
    jpeg_destroy_decompress(&d.jpeg);
    return d.status;
}
