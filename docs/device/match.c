/* Matches two images with an exported .tflite file and LiteRT's C library.

   gcc -O2 match.c -o match -L LITERT -lLiteRt -Wl,-rpath,LITERT -lm
   ./match pdcnet.tflite source.ppm target.ppm flow.flo confidence.pfm

   LITERT is the folder that holds libLiteRt.so, for instance that of the Python package
   ai_edge_litert (2.1 or newer). The images are binary PPM (P6) of exactly the file's size. */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is used of LiteRT's C interface; its own headers (litert/c/) say the same. */
typedef struct LiteRtEnvironmentT *LiteRtEnvironment;
typedef struct LiteRtModelT *LiteRtModel;
typedef struct LiteRtOptionsT *LiteRtOptions;
typedef struct LiteRtCompiledModelT *LiteRtCompiledModel;
typedef struct LiteRtSignatureT *LiteRtSignature;
typedef struct LiteRtTensorT *LiteRtTensor;
typedef struct LiteRtTensorBufferT *LiteRtTensorBuffer;
typedef struct LiteRtTensorBufferRequirementsT *LiteRtTensorBufferRequirements;
typedef struct {
  int element_type; /* 1: float32, 3: uint8 */
  unsigned rank : 7, has_strides : 1;
  int32_t dimensions[8];
  uint32_t strides[8];
} LiteRtRankedTensorType;

int LiteRtCreateEnvironment(int count, const void *options, LiteRtEnvironment *environment);
int LiteRtCreateModelFromFile(LiteRtEnvironment environment, const char *path, LiteRtModel *model);
int LiteRtCreateOptions(LiteRtOptions *options);
int LiteRtSetOptionsHardwareAccelerators(LiteRtOptions options, int accelerators);
int LiteRtCreateCompiledModel(LiteRtEnvironment environment, LiteRtModel model,
                              LiteRtOptions options, LiteRtCompiledModel *compiled);
int LiteRtGetModelSignature(LiteRtModel model, size_t index, LiteRtSignature *signature);
int LiteRtGetNumSignatureInputs(LiteRtSignature signature, size_t *count);
int LiteRtGetNumSignatureOutputs(LiteRtSignature signature, size_t *count);
int LiteRtGetSignatureInputName(LiteRtSignature signature, size_t index, const char **name);
int LiteRtGetSignatureOutputName(LiteRtSignature signature, size_t index, const char **name);
int LiteRtGetSignatureInputTensorByIndex(LiteRtSignature signature, size_t index,
                                         LiteRtTensor *tensor);
int LiteRtGetSignatureOutputTensorByIndex(LiteRtSignature signature, size_t index,
                                          LiteRtTensor *tensor);
int LiteRtGetRankedTensorType(LiteRtTensor tensor, LiteRtRankedTensorType *type);
int LiteRtGetCompiledModelInputBufferRequirements(LiteRtCompiledModel compiled, size_t signature,
                                                  size_t index,
                                                  LiteRtTensorBufferRequirements *requirements);
int LiteRtGetCompiledModelOutputBufferRequirements(LiteRtCompiledModel compiled, size_t signature,
                                                   size_t index,
                                                   LiteRtTensorBufferRequirements *requirements);
int LiteRtCreateManagedTensorBufferFromRequirements(LiteRtEnvironment environment,
                                                    const LiteRtRankedTensorType *type,
                                                    LiteRtTensorBufferRequirements requirements,
                                                    LiteRtTensorBuffer *buffer);
int LiteRtLockTensorBuffer(LiteRtTensorBuffer buffer, void **address, int mode);
int LiteRtUnlockTensorBuffer(LiteRtTensorBuffer buffer);
int LiteRtRunCompiledModel(LiteRtCompiledModel compiled, size_t signature, size_t inputs,
                           LiteRtTensorBuffer *input, size_t outputs, LiteRtTensorBuffer *output);
void LiteRtDestroyTensorBuffer(LiteRtTensorBuffer buffer);
void LiteRtDestroyCompiledModel(LiteRtCompiledModel compiled);
void LiteRtDestroyOptions(LiteRtOptions options);
void LiteRtDestroyModel(LiteRtModel model);
void LiteRtDestroyEnvironment(LiteRtEnvironment environment);

enum { CPU = 1, READ = 0, WRITE = 1, MOST = 8 };

static void stop(const char *what, const char *name) {
  fprintf(stderr, "match: %s %s\n", what, name);
  exit(1);
}

#define CHECK(call) \
  if (call) stop("LiteRT refuses:", #call)

/* Reads a binary PPM of width x height pixels. */
static void read_ppm(const char *path, int width, int height, uint8_t *pixels) {
  FILE *file = fopen(path, "rb");
  if (!file) stop("cannot read", path);
  int columns, rows, largest;
  if (fscanf(file, "P6 %d %d %d", &columns, &rows, &largest) != 3 || largest != 255)
    stop("not a binary PPM of 8 bits:", path);
  if (columns != width || rows != height) stop("not of the size of the network:", path);
  fgetc(file); /* one white space */
  size_t size = (size_t)width * height * 3;
  if (fread(pixels, 1, size, file) != size) stop("cut short:", path);
  fclose(file);
}

/* Writes what is stored row by row; `upwards` begins with the last row, as PFM does. */
static void write_rows(const char *path, const void *header, size_t header_size,
                       const float *values, int width, int height, int channels, int upwards) {
  FILE *file = fopen(path, "wb");
  if (!file) stop("cannot write", path);
  fwrite(header, 1, header_size, file);
  for (int row = 0; row < height; ++row) {
    size_t start = (size_t)(upwards ? height - 1 - row : row) * width * channels;
    fwrite(values + start, sizeof(float), (size_t)width * channels, file);
  }
  if (fclose(file)) stop("cannot write", path);
}

int main(int count, char **arguments) {
  if (count != 6) stop("usage:", "match FILE.tflite SOURCE.ppm TARGET.ppm FLOW.flo CONFIDENCE.pfm");

  LiteRtEnvironment environment;
  LiteRtModel model;
  LiteRtOptions options;
  LiteRtCompiledModel compiled;
  LiteRtSignature signature;
  CHECK(LiteRtCreateEnvironment(0, NULL, &environment));
  CHECK(LiteRtCreateModelFromFile(environment, arguments[1], &model));
  CHECK(LiteRtCreateOptions(&options));
  CHECK(LiteRtSetOptionsHardwareAccelerators(options, CPU));
  CHECK(LiteRtCreateCompiledModel(environment, model, options, &compiled));
  CHECK(LiteRtGetModelSignature(model, 0, &signature));

  size_t inputs, outputs;
  LiteRtTensorBuffer input[MOST], output[MOST];
  const char *name;
  int height = 0, width = 0;
  CHECK(LiteRtGetNumSignatureInputs(signature, &inputs));
  CHECK(LiteRtGetNumSignatureOutputs(signature, &outputs));
  if (inputs != 2 || outputs > MOST) stop("not exported by tfdense:", arguments[1]);

  for (size_t i = 0; i < inputs; ++i) {
    LiteRtTensor tensor;
    LiteRtRankedTensorType type;
    LiteRtTensorBufferRequirements needs;
    void *pixels;
    CHECK(LiteRtGetSignatureInputTensorByIndex(signature, i, &tensor));
    CHECK(LiteRtGetRankedTensorType(tensor, &type)); /* uint8 [1, height, width, 3] */
    CHECK(LiteRtGetCompiledModelInputBufferRequirements(compiled, 0, i, &needs));
    CHECK(LiteRtCreateManagedTensorBufferFromRequirements(environment, &type, needs, &input[i]));
    height = type.dimensions[1], width = type.dimensions[2];
    /* Inputs and outputs come in any order: their names say which is which. */
    CHECK(LiteRtGetSignatureInputName(signature, i, &name));
    CHECK(LiteRtLockTensorBuffer(input[i], &pixels, WRITE));
    read_ppm(arguments[strcmp(name, "source") ? 3 : 2], width, height, pixels);
    CHECK(LiteRtUnlockTensorBuffer(input[i]));
  }
  for (size_t i = 0; i < outputs; ++i) {
    LiteRtTensor tensor;
    LiteRtRankedTensorType type;
    LiteRtTensorBufferRequirements needs;
    CHECK(LiteRtGetSignatureOutputTensorByIndex(signature, i, &tensor));
    CHECK(LiteRtGetRankedTensorType(tensor, &type));
    CHECK(LiteRtGetCompiledModelOutputBufferRequirements(compiled, 0, i, &needs));
    CHECK(LiteRtCreateManagedTensorBufferFromRequirements(environment, &type, needs, &output[i]));
  }

  CHECK(LiteRtRunCompiledModel(compiled, 0, inputs, input, outputs, output));

  for (size_t i = 0; i < outputs; ++i) {
    void *values;
    CHECK(LiteRtGetSignatureOutputName(signature, i, &name));
    CHECK(LiteRtLockTensorBuffer(output[i], &values, READ));
    if (!strcmp(name, "flow")) {
      /* (dx, dy) of each pixel of the target: it shows what the source shows that far away. */
      struct {
        float magic;
        int32_t width, height;
      } header = {202021.25f, width, height};
      write_rows(arguments[4], &header, sizeof header, values, width, height, 2, 0);
    } else if (!strcmp(name, "confidence")) {
      /* The probability that the flow is right to 1 px in x and in y. */
      char header[64];
      int size = snprintf(header, sizeof header, "Pf\n%d %d\n-1.0\n", width, height);
      write_rows(arguments[5], header, (size_t)size, values, width, height, 1, 1);
    }
    CHECK(LiteRtUnlockTensorBuffer(output[i]));
    LiteRtDestroyTensorBuffer(output[i]);
  }
  for (size_t i = 0; i < inputs; ++i) LiteRtDestroyTensorBuffer(input[i]);
  LiteRtDestroyCompiledModel(compiled);
  LiteRtDestroyOptions(options);
  LiteRtDestroyModel(model);
  LiteRtDestroyEnvironment(environment);
  return 0;
}
