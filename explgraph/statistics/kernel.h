/* The kernels for one width of vectors; kernel.c includes this once for every kind of processor.

   Before the inclusion: LANES (floats per vector, a power of two), TARGET (function attribute) and
   NAME(f) (gives f another name each time).

   Maps are W units wide; a row is `nv` vectors, the last one filled up with zeros. Rows without any
   activation are left out from the start, so the rows of a map in hand are those that count. */

typedef float NAME(vec) __attribute__((vector_size(LANES * 4), may_alias));
typedef int32_t NAME(ivec) __attribute__((vector_size(LANES * 4), may_alias));
#define vec NAME(vec)
#define ivec NAME(ivec)
#define INLINE static inline __attribute__((always_inline)) TARGET

INLINE vec NAME(load)(const float *from)
{
    vec v;
    memcpy(&v, from, sizeof v);
    return v;
}

/* where the mask is set the first, elsewhere the second */
INLINE vec NAME(choose)(ivec mask, vec yes, vec no)
{
    return (vec)((mask & (ivec)yes) | (~mask & (ivec)no));
}

INLINE float NAME(sum)(vec v)
{
    four part[LANES / 4];
    memcpy(part, &v, sizeof v);
    for (int half = LANES / 8; half; half /= 2)
        for (int i = 0; i < half; i++) part[i] += part[i + half];
    return (part[0][0] + part[0][2]) + (part[0][1] + part[0][3]);
}

/* whether any bit is set, so that NaN counts as something */
INLINE int NAME(any)(vec v)
{
    two part[LANES / 4];
    memcpy(part, &v, sizeof v);
    for (int half = LANES / 8; half; half /= 2)
        for (int i = 0; i < half; i++) part[i] |= part[i + half];
    return (part[0][0] | part[0][1]) != 0;
}

/* 2^t for -126 < t <= 0, to 2e-7: Taylor's series around the nearest integer */
INLINE vec NAME(exp2)(vec t)
{
    const float magic = 12582912.0f; /* 1.5 2^23: adding it rounds to an integer */
    vec shifted = t + magic;
    vec r = t - (shifted - magic);
    vec p = r * 1.5403530e-4f + 1.3333558e-3f;
    p = p * r + 9.6181291e-3f;
    p = p * r + 5.5504109e-2f;
    p = p * r + 2.4022651e-1f;
    p = p * r + 6.9314718e-1f;
    p = p * r + 1.0f;
    return p * (vec)(((ivec)shifted << 23) + (127 << 23));
}

/* Give the logarithm of normal positive numbers and put their inverse into *inverse.

   With d = m 2^e the logarithm is e log 2 + 2 artanh(s), s = (m - 1) / (m + 1), and one division
   serves both: by m (m + 1). */
INLINE vec NAME(log)(vec d, vec *inverse)
{
    const int32_t half = 0x3f3504f3; /* bits of sqrt(1/2), which m is not below */
    ivec exponent = ((ivec)d - half) >> 23;
    vec m = (vec)((ivec)d - (exponent << 23)) + (d - d); /* NaN and inf become NaN */
    vec above = m + 1.0f;
    vec both = 1.0f / (m * above);
    *inverse = both * above * (vec)((127 - exponent) << 23);
    vec s = both * m * (m - 1.0f);
    vec q = s * s;
    vec p = q * (2.0f / 9) + 2.0f / 7;
    p = p * q + 2.0f / 5;
    p = p * q + 2.0f / 3;
    p = p * q + 2.0f;
    return __builtin_convertvector(exponent, vec) * 0.69314718f + p * s;
}

/* exponent of a Gaussian factor in powers of two, with the floor of mixture.py; NaN passes */
INLINE vec NAME(factor)(vec offset, float rate)
{
    vec t = offset * offset * rate;
    vec least = (vec){0} + LEAST_EXPONENT;
    return NAME(exp2)(NAME(choose)(t < least, least, t));
}

/* Working memory of one thread. */
typedef struct {
    int nv, last;      /* vectors per row; valid lanes of the last */
    ivec mask;         /* of the last vector of a row */
    vec *map;          /* (H, nv) */
    float *y;          /* (H) of the rows in hand, filled up to whole vectors */
    vec *x;            /* (nv) */
    vec *gx;           /* (K, nv) */
    vec *gy, *gy1, *gy2; /* (K, nh): times 1, dy, dy^2 */
    vec *sums;         /* (K, 4) */
    float *tail;       /* copy of a map near the tensor's end, with room for loads beyond it */
    int nh;            /* vectors per column */
    float *cx, *cy;    /* (K) centres */
    int *kept;         /* (K) patterns that are alive */
    float *rate, *weight; /* (K) of those kept */
    void *memory;
} NAME(Room);

#define Room NAME(Room)

static TARGET int NAME(open_room)(Room *r, const Job *job)
{
    size_t h = job->h, w = job->w, k = job->k;
    r->nv = (int)((w + LANES - 1) / LANES);
    r->last = (int)(w - (size_t)(r->nv - 1) * LANES);
    size_t rows = h + 8; /* room for a block that is not full */
    r->nh = (int)((rows + LANES - 1) / LANES);
    size_t vectors = rows * r->nv + r->nv + k * r->nv + 3 * k * r->nh + 4 * k + r->nh;
    size_t bytes = (vectors + 1) * sizeof(vec) +
                   (h * w + LANES + 4 * k) * sizeof(float) + k * sizeof(int);
    r->memory = malloc(bytes);
    if (!r->memory) return 0;
    memset(r->memory, 0, bytes);
    uintptr_t start = ((uintptr_t)r->memory + sizeof(vec) - 1) / sizeof(vec) * sizeof(vec);
    vec *v = (vec *)start;
    r->map = v, v += rows * r->nv;
    r->x = v, v += r->nv;
    r->gx = v, v += k * r->nv;
    r->gy = v, v += k * r->nh;
    r->gy1 = v, v += k * r->nh;
    r->gy2 = v, v += k * r->nh;
    r->sums = v, v += 4 * k;
    r->y = (float *)v, v += r->nh;
    float *f = (float *)v;
    r->tail = f, f += h * w + LANES;
    r->cx = f, f += k;
    r->cy = f, f += k;
    r->rate = f, f += k;
    r->weight = f, f += k;
    r->kept = (int *)f;
    memcpy(r->x, job->x, w * sizeof(float));
    for (int i = 0; i < LANES; i++) r->mask[i] = i < r->last ? -1 : 0;
    return 1;
}

/* Take the rows of map (image, filter) that are not all zero; give their number. */
INLINE int NAME(take_rows)(Room *r, const Job *job, size_t image, size_t filter, vec *total,
                           const int nv)
{
    size_t units = job->h * job->w, which = image * job->c + filter;
    const float *from = job->activations + which * units;
    if ((job->n * job->c - which - 1) * units < LANES) { /* loads would leave the tensor */
        memcpy(r->tail, from, units * sizeof(float));
        from = r->tail;
    } else if (image + 1 < job->n) {
        const char *next = (const char *)(from + job->c * units);
        for (size_t i = 0; i < units * sizeof(float); i += 64) __builtin_prefetch(next + i);
    }
    const size_t height = job->h, width = job->w;
    const float *y = job->y;
    const ivec mask = r->mask;
    vec *map = r->map, sum = *total;
    int rows = 0;
    for (size_t h = 0; h < height; h++, from += width) {
        vec *to = map + rows * nv;
        vec all = {0};
        for (int j = 0; j < nv; j++) {
            vec v = NAME(load)(from + j * LANES);
            if (j == nv - 1) v = (vec)((ivec)v & mask);
            to[j] = v;
            sum += v;
            all = (vec)((ivec)all | (ivec)v);
        }
        r->y[rows] = y[h];
        rows += NAME(any)(all);
    }
    *total = sum;
    return rows;
}

/* Gaussian factors of every kept pattern over the columns and the rows in hand. */
INLINE void NAME(take_factors)(Room *r, int kept, int rows, const int nv)
{
    const int nh = r->nh, used = (rows + LANES - 1) / LANES;
    for (int k = 0; k < kept; k++) {
        for (int j = 0; j < nv; j++)
            r->gx[k * nv + j] = NAME(factor)(r->x[j] - r->cx[k], r->rate[k]);
        for (int i = 0; i < used; i++) {
            vec dy = ((vec *)r->y)[i] - r->cy[k];
            vec g = NAME(factor)(dy, r->rate[k]) * r->weight[k];
            r->gy[k * nh + i] = g;
            g *= dy;
            r->gy1[k * nh + i] = g;
            r->gy2[k * nh + i] = g * dy;
        }
    }
}

/* Replace `tall` rows by activation / density; give sum a log density. */
INLINE vec NAME(divide)(Room *r, int kept, int row, float background, const int tall, const int nv)
{
    const int nh = r->nh;
    vec bound = {0};
    for (int j = 0; j < nv; j++) {
        vec density[8];
        for (int i = 0; i < tall; i++) density[i] = (vec){0} + background;
        for (int k = 0; k < kept; k++) {
            vec gx = r->gx[k * nv + j];
            const float *gy = (const float *)(r->gy + k * nh) + row;
            for (int i = 0; i < tall; i++) density[i] += gy[i] * gx;
        }
        for (int i = 0; i < tall; i++) {
            vec *a = r->map + (row + i) * nv + j;
            vec inverse, log = NAME(log)(density[i], &inverse);
            bound += *a * log;
            *a *= inverse;
        }
    }
    return bound;
}

/* Add the moments of `wide` patterns to their sums. */
INLINE void NAME(add_moments)(Room *r, int k, int rows, const int wide, const int nv)
{
    const int nh = r->nh;
    for (int j = 0; j < nv; j++) {
        vec m0[4], m1[4], m2[4];
        for (int i = 0; i < wide; i++) m0[i] = m1[i] = m2[i] = (vec){0};
        for (int h = 0; h < rows; h++) {
            vec ratio = r->map[h * nv + j];
            for (int i = 0; i < wide; i++) {
                m0[i] += ((const float *)(r->gy + (k + i) * nh))[h] * ratio;
                m1[i] += ((const float *)(r->gy1 + (k + i) * nh))[h] * ratio;
                m2[i] += ((const float *)(r->gy2 + (k + i) * nh))[h] * ratio;
            }
        }
        for (int i = 0; i < wide; i++) {
            vec gx = r->gx[(k + i) * nv + j], dx = r->x[j] - r->cx[k + i];
            vec *sum = r->sums + (k + i) * 4;
            vec count = m0[i] * gx;
            sum[0] += count;
            sum[1] += count * dx;
            sum[2] += m1[i] * gx;
            sum[3] += count * dx * dx + m2[i] * gx;
        }
    }
}

/* Sum each of four vectors over its lanes. */
INLINE four NAME(sums)(const vec *from)
{
    four part[4];
    for (int i = 0; i < 4; i++) {
        const float *f = (const float *)(from + i);
        memcpy(part + i, f, sizeof(four));
        for (int j = 1; j < LANES / 4; j++) {
            four more;
            memcpy(&more, f + 4 * j, sizeof more);
            part[i] += more;
        }
    }
    /* turned on its side, so that one addition serves all four */
    four a = {part[0][0], part[1][0], part[2][0], part[3][0]};
    four b = {part[0][1], part[1][1], part[2][1], part[3][1]};
    four c = {part[0][2], part[1][2], part[2][2], part[3][2]};
    four d = {part[0][3], part[1][3], part[2][3], part[3][3]};
    return (a + b) + (c + d);
}

/* Do the E step over some filters, image by image. */
INLINE void NAME(e_step_rows)(const Job *job, Room *r, const int nv)
{
    const size_t all = job->k, filters = job->filters;
    const int tall = (job->h + 6) / 7 * 7 <= (job->h + 7) / 8 * 8 ? 7 : 8;
    for (size_t f = job->first; f < job->last; f++) {
        const size_t c = (size_t)job->which[f];
        const float *sigma = job->sigma + f * all;
        for (size_t n = 0; n < job->n; n++) {
            const size_t at = n * filters + f, shared = (job->shares > 1 ? n * filters : 0) + f;
            const float *share = job->share + shared * all, *centre = job->centre + at * all * 2;
            float *count = job->count + at * all, *square = job->square + at * all;
            float *offset = job->offset + at * all * 2;
            memset(count, 0, all * sizeof(float));
            memset(square, 0, all * sizeof(float));
            memset(offset, 0, 2 * all * sizeof(float));
            vec part = {0};
            int rows = NAME(take_rows)(r, job, n, c, &part, nv);
            job->total[at] = job->bound[at] = 0;
            if (!rows) {
                if (job->rest) memset(job->rest + at * job->h * job->w, 0, job->h * job->w * sizeof(float));
                continue;
            }
            part = (vec){0};
            for (int i = 0; i < rows * nv; i++) {
                r->map[i] *= r->map[i];
                part += r->map[i];
            }
            job->total[at] = NAME(sum)(part);
            int kept = 0;
            for (size_t k = 0; k < all; k++) {
                if (share[k] == 0) continue;
                float rate = 1 / (sigma[k] * sigma[k]);
                r->cx[kept] = centre[2 * k];
                r->cy[kept] = centre[2 * k + 1];
                r->kept[kept] = (int)k;
                r->rate[kept] = RATE * rate;
                r->weight[kept++] = share[k] * HEIGHT * rate;
            }
            int full = (rows + tall - 1) / tall * tall;
            for (int i = rows; i < full; i++) r->y[i] = r->y[0];
            memset(r->map + rows * nv, 0, (size_t)(full - rows) * nv * sizeof(vec));
            memset(r->sums, 0, 4 * (size_t)kept * sizeof(vec));
            NAME(take_factors)(r, kept, full, nv);
            const float background = job->background[shared];
            vec log = {0};
            if (tall == 7)
                for (int h = 0; h < full; h += 7) log += NAME(divide)(r, kept, h, background, 7, nv);
            else
                for (int h = 0; h < full; h += 8) log += NAME(divide)(r, kept, h, background, 8, nv);
            job->bound[at] = NAME(sum)(log);
            if (job->rest) {
                /* rows that are all zero are no more in hand; the rest of the map is zeros */
                float *rest = job->rest + at * job->h * job->w;
                for (size_t h = 0, row = 0; h < job->h; h++, rest += job->w) {
                    if (row < (size_t)rows && r->y[row] == job->y[h]) {
                        for (size_t j = 0; j < job->w; j++)
                            rest[j] = ((const float *)(r->map + row * nv))[j] * background;
                        row++;
                    } else
                        memset(rest, 0, job->w * sizeof(float));
                }
            }
            IN_GROUPS(NAME(add_moments), kept);
            for (int i = 0; i < kept; i++) {
                const int k = r->kept[i];
                four sums = NAME(sums)(r->sums + 4 * i);
                count[k] = sums[0];
                offset[2 * k] = sums[1];
                offset[2 * k + 1] = sums[2];
                square[k] = sums[3];
            }
        }
    }
}

/* Sums of activation under some Gaussians: mass, mass times dx, times dy, times dx^2 + dy^2. */
INLINE void NAME(weigh)(Room *r, int k, int rows, const int wide, const int nv)
{
    const int nh = r->nh;
    vec mass[4], to_x[4], to_y[4], apart[4];
    for (int i = 0; i < wide; i++) mass[i] = to_x[i] = to_y[i] = apart[i] = (vec){0};
    for (int j = 0; j < nv; j++) {
        vec m0[4], m1[4], m2[4];
        for (int i = 0; i < wide; i++) m0[i] = m1[i] = m2[i] = (vec){0};
        for (int h = 0; h < rows; h++) {
            vec a = r->map[h * nv + j];
            for (int i = 0; i < wide; i++) {
                m0[i] += ((const float *)(r->gy + (k + i) * nh))[h] * a;
                m1[i] += ((const float *)(r->gy1 + (k + i) * nh))[h] * a;
                m2[i] += ((const float *)(r->gy2 + (k + i) * nh))[h] * a;
            }
        }
        for (int i = 0; i < wide; i++) {
            vec gx = r->gx[(k + i) * nv + j], dx = r->x[j] - r->cx[k + i], m = m0[i] * gx;
            mass[i] += m;
            to_x[i] += m * dx;
            to_y[i] += m1[i] * gx;
            apart[i] += m * dx * dx + m2[i] * gx;
        }
    }
    for (int i = 0; i < wide; i++) {
        float *sums = (float *)(r->sums + (k + i) * 4);
        sums[0] = NAME(sum)(mass[i]);
        sums[1] = NAME(sum)(to_x[i]);
        sums[2] = NAME(sum)(to_y[i]);
        sums[3] = NAME(sum)(apart[i]);
    }
}

/* Look around places in some filters' squared maps. */
INLINE void NAME(survey_rows)(const Job *job, Room *r, const int nv)
{
    const size_t all = job->k;
    for (size_t k = 0; k < all; k++) {
        r->rate[k] = RATE / (job->reach * job->reach);
        r->weight[k] = 1;
    }
    for (size_t c = job->first; c < job->last; c++) {
        for (size_t n = 0; n < job->n; n++) {
            vec total = {0};
            int rows = NAME(take_rows)(r, job, n, c, &total, nv);
            const size_t at = (n * job->c + c) * all;
            const float *expected = job->displacement + at * 2;
            float *step = job->positions + at * 2, *scores = job->scores + at;
            float *variance = job->square + at;
            memset(step, 0, 2 * all * sizeof(float));
            memset(variance, 0, all * sizeof(float));
            memset(scores, 0, all * sizeof(float));
            if (!rows) continue;
            for (int i = 0; i < rows * nv; i++) r->map[i] *= r->map[i];
            for (size_t i = 0; i < all; i++) {
                r->cx[i] = expected[2 * i];
                r->cy[i] = expected[2 * i + 1];
            }
            NAME(take_factors)(r, (int)all, rows, nv);
            IN_GROUPS(NAME(weigh), (int)all);
            for (size_t i = 0; i < all; i++) {
                const float *sums = (const float *)(r->sums + i * 4);
                if (sums[0] <= TINY) continue;
                float x = sums[1] / sums[0], y = sums[2] / sums[0];
                float spread = (sums[3] / sums[0] - x * x - y * y) / 2;
                step[2 * i] = x;
                step[2 * i + 1] = y;
                variance[i] = spread < 0 ? 0 : spread;
                scores[i] = sums[0];
            }
        }
    }
}

/* Each map's highest unit, the first of several, and the mean of the activation around it. */
INLINE void NAME(peaks_rows)(const Job *job, Room *r, const int nv)
{
    const ivec magnitude = (ivec){0} + 0x7fffffff;
    const float reach = job->reach;
    const vec *x = r->x;
    for (size_t c = job->first; c < job->last; c++) {
        for (size_t n = 0; n < job->n; n++) {
            vec total = {0}, highest = {0};
            const int rows = NAME(take_rows)(r, job, n, c, &total, nv);
            const vec *map = r->map;
            for (int i = 0; i < rows * nv; i++)
                highest = NAME(choose)(map[i] > highest, map[i], highest);
            float top = 0;
            for (int i = 0; i < LANES; i++) top = highest[i] > top ? highest[i] : top;
            float *position = job->positions + (n * job->c + c) * 2;
            job->scores[n * job->c + c] = top;
            position[0] = job->middle[0];
            position[1] = job->middle[1];
            if (top == 0) continue;
            int unit = 0;
            while (((const float *)map)[unit] != top) unit++;
            const float left = ((const float *)x)[unit % (nv * LANES)];
            const float up = r->y[unit / (nv * LANES)];
            vec mass = {0}, to_x = {0}, to_y = {0};
            for (int h = 0; h < rows; h++) {
                const float dy = r->y[h] - up;
                if (!(dy <= reach && -dy <= reach)) continue;
                for (int j = 0; j < nv; j++) {
                    vec dx = x[j] - left;
                    ivec near = (vec)((ivec)dx & magnitude) <= (vec){0} + reach;
                    vec a = (vec)((ivec)map[h * nv + j] & near);
                    mass += a;
                    to_x += a * dx;
                    to_y += a * dy;
                }
            }
            position[0] = left + NAME(sum)(to_x) / NAME(sum)(mass);
            position[1] = up + NAME(sum)(to_y) / NAME(sum)(mass);
        }
    }
}

/* The compiler makes a copy for maps one vector wide. */
#define ENTRY(f)                           \
    static TARGET int NAME(f)(const Job *job) \
    {                                      \
        Room r;                            \
        if (!NAME(open_room)(&r, job)) return 0; \
        if (r.nv == 1)                     \
            NAME(f##_rows)(job, &r, 1);    \
        else                               \
            NAME(f##_rows)(job, &r, r.nv); \
        free(r.memory);                    \
        return 1;                          \
    }

ENTRY(e_step)
ENTRY(survey)
ENTRY(peaks)

#undef ENTRY
#undef Room
#undef vec
#undef ivec
#undef INLINE
