/* Runs the signature `match` of an exported SavedModel by TensorFlow's C interface, without Python.

   match FOLDER HEIGHT WIDTH SOURCE.rgb TARGET.rgb SOURCE-INPUT TARGET-INPUT FLOW-OUTPUT FLOW.f32

   The images are raw bytes [height, width, 3]; the flow is written as raw float32
   [height, width, 2]. Tensors are named OPERATION:INDEX, as `saved_model_cli show` prints them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

static void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void check(TF_Status *status, const char *what) {
  if (TF_GetCode(status) != TF_OK) fail(what, TF_Message(status));
}

static TF_Output tensor_of(TF_Graph *graph, const char *name) {
  char operation[512];
  const char *colon = strrchr(name, ':');
  if (colon == NULL || (size_t)(colon - name) >= sizeof operation) fail(name, "no OPERATION:INDEX");
  memcpy(operation, name, colon - name);
  operation[colon - name] = '\0';
  TF_Output output = {TF_GraphOperationByName(graph, operation), atoi(colon + 1)};
  if (output.oper == NULL) fail(operation, "is not in the graph");
  return output;
}

static TF_Tensor *read_image(const char *path, int64_t height, int64_t width) {
  int64_t shape[] = {1, height, width, 3};
  size_t size = height * width * 3;
  TF_Tensor *tensor = TF_AllocateTensor(TF_UINT8, shape, 4, size);
  FILE *file = fopen(path, "rb");
  if (file == NULL || fread(TF_TensorData(tensor), 1, size, file) != size) fail(path, "unreadable");
  fclose(file);
  return tensor;
}

int main(int count, char **arguments) {
  if (count != 10) fail(arguments[0], "expected nine arguments");
  int64_t height = atoll(arguments[2]), width = atoll(arguments[3]);
  const char *tags[] = {"serve"};
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, arguments[1], tags, 1, graph,
                                                     NULL, status);
  check(status, arguments[1]);

  TF_Output inputs[] = {tensor_of(graph, arguments[6]), tensor_of(graph, arguments[7])};
  TF_Output output = tensor_of(graph, arguments[8]);
  TF_Tensor *images[] = {read_image(arguments[4], height, width),
                         read_image(arguments[5], height, width)};
  TF_Tensor *flow = NULL;
  TF_SessionRun(session, NULL, inputs, images, 2, &output, &flow, 1, NULL, 0, NULL, status);
  check(status, "match");
  if (TF_NumDims(flow) != 4 || TF_Dim(flow, 1) != height || TF_Dim(flow, 2) != width)
    fail("flow", "has another shape than the target");

  FILE *file = fopen(arguments[9], "wb");
  size_t size = TF_TensorByteSize(flow);
  if (file == NULL || fwrite(TF_TensorData(flow), 1, size, file) != size || fclose(file) != 0)
    fail(arguments[9], "cannot be written");
  TF_DeleteTensor(flow);
  TF_DeleteTensor(images[0]);
  TF_DeleteTensor(images[1]);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
