using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Cli.Inspection;

// What the program carries has no path; it is described by its readers.
public static partial class Inspector
{
    /// <summary>The demo model or one of its SAEs; null if the name is neither.</summary>
    /// <param name="name">As --model and --sae take it.</param>
    /// <param name="options">What to do beyond checking.</param>
    /// <param name="cancellation">Stops between two tensors.</param>
    public static InspectionResult? InspectCarried(string name, InspectOptions options, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(options);
        if (name == Demo.ModelName)
        {
            using Gemma2Checkpoint model = Demo.OpenCheckpoint();
            IEnumerable<InspectedTensor> tensors = model.Files.SelectMany(file => Describe(file, file.Contents, options, cancellation));
            return new InspectionResult(name, true, null, "model", [.. tensors]);
        }

        if (!Demo.SaeNames.Contains(name))
            return null;
        using SaeCheckpoint sae = Demo.OpenSae(name);
        TensorView?[] parts = [sae.Encoder, sae.Decoder, sae.EncoderBias, sae.DecoderBias, sae.Threshold, sae.Skip];
        IEnumerable<InspectedTensor> views = parts.OfType<TensorView>().Select(view => Describe(view, options, cancellation));
        return new InspectionResult(name, true, null, "gemma_scope_sae", [.. views]);
    }

    private static unsafe InspectedTensor Describe(TensorView view, InspectOptions options, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        if (!options.Statistics || !RangeScan.Covers(view.DType))
            return Row(view.Info, null);
        var scan = new RangeScan(view.DType);
        scan.Add(new ReadOnlySpan<byte>(view.Pointer, checked((int)view.ByteLength)));
        return Row(view.Info, scan);
    }
}
