// Classify and segment with MediaPipe Tasks. Not run here: there is no Xcode.
//
//   # Podfile
//   pod 'MediaPipeTasksVision'
//
// Labels, and that pixels go in as they are, come from the file. MediaPipe takes float32
// and uint8 outputs, not int8:
//   vit-export tflite RUN/model.keras model.tflite --scheme dynamic_int8 --target cpu
// and add model.tflite to the app's target.

import MediaPipeTasksVision
import UIKit

private func resource(_ name: String) throws -> String {
  guard let path = Bundle.main.path(forResource: name, ofType: "tflite") else {
    throw CocoaError(.fileNoSuchFile)
  }
  return path
}

/// The five best labels of a photograph with what the model gives for them: logits, unless
/// it was built with activation "softmax".
func classify(_ photo: UIImage) throws -> [(String, Float)] {
  let options = ImageClassifierOptions()
  options.baseOptions.modelAssetPath = try resource("model")
  options.runningMode = .image
  options.maxResults = 5
  let classifier = try ImageClassifier(options: options)
  let result = try classifier.classify(image: MPImage(uiImage: photo))
  return result.classificationResult.classifications[0].categories.map {
    ($0.categoryName ?? "\($0.index)", $0.score)
  }
}

/// The class of each pixel of a photograph, row by row. MediaPipe stretches the photograph
/// to the input, as training with resize "stretch" does.
func segment(_ photo: UIImage) throws -> [UInt8] {
  let options = ImageSegmenterOptions()
  options.baseOptions.modelAssetPath = try resource("masks")
  options.runningMode = .image
  options.shouldOutputCategoryMask = true
  options.shouldOutputConfidenceMasks = false
  let segmenter = try ImageSegmenter(options: options)
  let result = try segmenter.segment(image: MPImage(uiImage: photo))
  guard let mask = result.categoryMask else { return [] }
  return Array(UnsafeBufferPointer(start: mask.uint8Data, count: mask.width * mask.height))
}
