// Classify and segment with MediaPipe Tasks. Not run here: there is no Android SDK.
//
//   // build.gradle.kts
//   implementation("com.google.mediapipe:tasks-vision:latest.release")
//
// Labels, and that pixels go in as they are, come from the file. MediaPipe takes float32
// and uint8 outputs, not int8:
//   vit-export tflite RUN/model.keras model.tflite --scheme dynamic_int8 --target cpu
// and put model.tflite into src/main/assets.

import android.content.Context
import android.graphics.Bitmap
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.framework.image.ByteBufferExtractor
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier
import com.google.mediapipe.tasks.vision.imagesegmenter.ImageSegmenter

private fun base(asset: String) = BaseOptions.builder().setModelAssetPath(asset).build()

/** The five best labels of a photograph with what the model gives for them: logits, unless
 * it was built with activation "softmax". */
fun classify(context: Context, photo: Bitmap): List<Pair<String, Float>> {
  val options = ImageClassifier.ImageClassifierOptions.builder()
    .setBaseOptions(base("model.tflite"))
    .setMaxResults(5)
    .build()
  return ImageClassifier.createFromOptions(context, options).use { classifier ->
    val result = classifier.classify(BitmapImageBuilder(photo).build())
    result.classificationResult().classifications().first().categories()
      .map { it.categoryName() to it.score() }
  }
}

/** The class of each pixel of a photograph, row by row. MediaPipe stretches the photograph
 * to the input, as training with resize "stretch" does. */
fun segment(context: Context, photo: Bitmap): ByteArray {
  val options = ImageSegmenter.ImageSegmenterOptions.builder()
    .setBaseOptions(base("masks.tflite"))
    .setOutputCategoryMask(true)
    .setOutputConfidenceMasks(false)
    .build()
  return ImageSegmenter.createFromOptions(context, options).use { segmenter ->
    val result = segmenter.segment(BitmapImageBuilder(photo).build())
    val mask = ByteBufferExtractor.extract(result.categoryMask().get())
    ByteArray(mask.remaining()).also { mask.get(it) }
  }
}
