/* The E step, the survey and the peaks of mixture.py, compiled: see there for what is computed.

   Vectors run along the columns of a map. With the factors gx (W), gy (H) of a pattern,
   R = a / density and M_i = sum_h gy dy^i R, the count is sum_w gx M_0, and the moments are
   sum_w gx dx M_0, sum_w gx M_1 and sum_w gx (dx^2 M_0 + M_2). Every filter is summed over the
   images by one thread in one order, so results don't depend on the number of threads.

   On x86-64 the code is there for AVX-512, for AVX2 and for any processor, chosen when it is
   loaded; elsewhere the compiler's default has vectors. It needs GCC's vector types (GCC, Clang);
   where those are missing explgraph works without this file. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030a0000
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__GNUC__)
#error "needs the vector types of GCC or Clang; explgraph works without this extension"
#endif

#define TINY 1e-12f /* as in mixture.py */
#define LEAST_EXPONENT (-36 * 1.44269504f)
#define RATE (-0.5f * 1.44269504f)
#define HEIGHT 0.15915494f /* 1 / (2 pi) */

/* Everything a call works on; contiguous float32 arrays with the shapes of mixture.py. */
typedef struct {
    size_t n, c, k, h, w, first, last; /* filters first <= f < last are done */
    size_t filters, shares; /* of the E step: filters; images with shares of their own, or 1 */
    const int64_t *which;   /* (filters): the map of each */
    const float *activations, *displacement, *centre, *sigma, *share, *background;
    const float *x, *y, *middle;
    float reach; /* the peaks' reach, or the survey's sigma */
    float *count, *offset, *square, *total, *bound;
    float *rest; /* of the E step: what the background answers for, or null */
    float *positions, *scores;
} Job;

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(f) JOIN(f, SUFFIX)

typedef float four __attribute__((vector_size(16)));
typedef uint64_t two __attribute__((vector_size(16)));

/* Call f(r, first, rows, number, nv) on groups of up to WIDE patterns; `number` is a constant. */
#define IN_GROUPS(f, patterns)                       \
    do {                                             \
        int k_ = 0;                                  \
        for (; k_ + WIDE <= (patterns); k_ += WIDE)  \
            f(r, k_, rows, WIDE, nv);                \
        switch ((patterns)-k_) {                     \
        case 3: f(r, k_, rows, 3, nv); break;        \
        case 2: f(r, k_, rows, 2, nv); break;        \
        case 1: f(r, k_, rows, 1, nv);               \
        }                                            \
    } while (0)

#define WIDE 2
#if defined(__aarch64__)
#define LANES 8 /* two registers, to keep the multipliers busy */
#else
#define LANES 4
#endif
#define TARGET
#define SUFFIX plain
#include "kernel.h"
#undef LANES
#undef TARGET
#undef SUFFIX

static int level; /* 0 any processor, 1 AVX2, 2 AVX-512 */

#if defined(__x86_64__)
#define LANES 8
#define TARGET __attribute__((target("avx2,fma")))
#define SUFFIX avx2
#include "kernel.h"
#undef LANES
#undef TARGET
#undef SUFFIX
#undef WIDE

#define WIDE 4 /* there are registers for it */
#define TARGET __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")))
#define LANES 16
#define SUFFIX avx512
#include "kernel.h"
#undef LANES
#undef SUFFIX
#define LANES 8
#define SUFFIX avx512_narrow
#include "kernel.h"

static int best_level(void)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")
               ? 2
               : 1;
}

#define RUN(f, job)                                                                  \
    (level == 0   ? f##_plain(job)                                                   \
     : level == 1 ? f##_avx2(job)                                                    \
                  : ((job)->w <= 8 ? f##_avx512_narrow(job) : f##_avx512(job)))
#else
static int best_level(void) { return 0; }
#define RUN(f, job) f##_plain(job)
#endif

/* Run without the GIL. */
#define FINISH(f, job)                     \
    do {                                   \
        int done_;                         \
        Py_BEGIN_ALLOW_THREADS             \
        done_ = RUN(f, job);               \
        Py_END_ALLOW_THREADS               \
        if (!done_) return PyErr_NoMemory(); \
        Py_RETURN_NONE;                    \
    } while (0)

#define ADDRESS(x) ((void *)(uintptr_t)(x))

typedef unsigned long long Address;

static PyObject *e_step(PyObject *self, PyObject *args)
{
    Job job = {0};
    Address in[8], out[6];
    Py_ssize_t n, c, filters, k, h, w, shares, first, last;
    (void)self;
    if (!PyArg_ParseTuple(args, "nnnnnnnnnKKKKKKKKKKKKKK", &n, &c, &filters, &k, &h, &w, &shares,
                          &first, &last, in, in + 1, in + 2, in + 3, in + 4, in + 5, in + 6, in + 7,
                          out, out + 1, out + 2, out + 3, out + 4, out + 5))
        return NULL;
    job.n = n, job.c = c, job.k = k, job.h = h, job.w = w;
    job.filters = filters, job.shares = shares, job.first = first, job.last = last;
    job.activations = ADDRESS(in[0]), job.which = ADDRESS(in[1]), job.centre = ADDRESS(in[2]);
    job.sigma = ADDRESS(in[3]), job.share = ADDRESS(in[4]), job.background = ADDRESS(in[5]);
    job.x = ADDRESS(in[6]), job.y = ADDRESS(in[7]);
    job.count = ADDRESS(out[0]), job.offset = ADDRESS(out[1]), job.square = ADDRESS(out[2]);
    job.total = ADDRESS(out[3]), job.bound = ADDRESS(out[4]), job.rest = ADDRESS(out[5]);
    FINISH(e_step, &job);
}

static PyObject *survey(PyObject *self, PyObject *args)
{
    Job job = {0};
    Address in[4], out[3];
    Py_ssize_t n, c, k, h, w, first, last;
    (void)self;
    if (!PyArg_ParseTuple(args, "nnnnnnnfKKKKKKK", &n, &c, &k, &h, &w, &first, &last, &job.reach,
                          in, in + 1, in + 2, in + 3, out, out + 1, out + 2))
        return NULL;
    job.n = n, job.c = c, job.k = k, job.h = h, job.w = w;
    job.first = first, job.last = last;
    job.activations = ADDRESS(in[0]), job.displacement = ADDRESS(in[1]);
    job.x = ADDRESS(in[2]), job.y = ADDRESS(in[3]);
    job.positions = ADDRESS(out[0]), job.square = ADDRESS(out[1]), job.scores = ADDRESS(out[2]);
    FINISH(survey, &job);
}

static PyObject *peaks(PyObject *self, PyObject *args)
{
    Job job = {0};
    Address in[4], out[2];
    Py_ssize_t n, c, h, w, first, last;
    (void)self;
    if (!PyArg_ParseTuple(args, "nnnnnnfKKKKKK", &n, &c, &h, &w, &first, &last, &job.reach, in,
                          in + 1, in + 2, in + 3, out, out + 1))
        return NULL;
    job.n = n, job.c = c, job.h = h, job.w = w, job.first = first, job.last = last;
    job.activations = ADDRESS(in[0]), job.x = ADDRESS(in[1]), job.y = ADDRESS(in[2]);
    job.middle = ADDRESS(in[3]);
    job.positions = ADDRESS(out[0]), job.scores = ADDRESS(out[1]);
    FINISH(peaks, &job);
}

static PyObject *limit(PyObject *self, PyObject *args)
{
    int most, best = best_level();
    (void)self;
    if (!PyArg_ParseTuple(args, "i", &most)) return NULL;
    level = most < best ? most : best;
    return PyLong_FromLong(level);
}

static PyMethodDef methods[] = {
    {"e_step", e_step, METH_VARARGS, "E step over some filters; arrays as addresses."},
    {"survey", survey, METH_VARARGS, "Look around places, some filters; arrays as addresses."},
    {"peaks", peaks, METH_VARARGS, "Peaks of some filters' maps; arrays as addresses."},
    {"limit", limit, METH_VARARGS,
     "Use the instructions of at most this level: 0 any processor, 1 AVX2, 2 AVX-512; give the "
     "level in use."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_kernel", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kernel(void)
{
    level = best_level();
    return PyModule_Create(&module);
}
