using KernelScope.Files;

namespace KernelScope.Sae;

/// <summary>Checks names, shapes and types of an SAE's arrays against each other and against its config.</summary>
internal sealed class SaeArrays
{
    private readonly TensorFile _file;
    private readonly Dictionary<string, TensorInfo> _infos;

    private SaeArrays(TensorFile file, SaeLayout layout, bool mayBeLowerCase)
    {
        _file = file;
        _infos = file.Contents.ToDictionary(i => i.Name, StringComparer.Ordinal);
        Layout = mayBeLowerCase ? layout with { Encoder = Choose(layout.Encoder), Decoder = Choose(layout.Decoder) } : layout;
        TensorInfo encoder = Matrix(Layout.Encoder), decoder = Matrix(Layout.Decoder);
        int featureAxis = layout.OutputMajor ? 0 : 1;
        (InputDim, FeatureCount, OutputDim) = (Dim(encoder, 1 - featureAxis), Dim(encoder, featureAxis), Dim(decoder, 1));
    }

    /// <summary>The arrays' names in this file.</summary>
    public SaeLayout Layout { get; }

    /// <summary>d_in, from W_enc.</summary>
    public int InputDim { get; }

    /// <summary>d_sae, from W_enc.</summary>
    public int FeatureCount { get; }

    /// <summary>d_out, from W_dec.</summary>
    public int OutputDim { get; }

    /// <summary>Looks at the matrices; Gemma Scope files may call them w_enc and w_dec, as SAELens' loader allows.</summary>
    public static SaeArrays From(TensorFile file, SaeLayout layout, bool mayBeLowerCase = false) => new(file, layout, mayBeLowerCase);

    /// <summary>Checks that the file holds what the config needs, of the right shapes, and nothing else.</summary>
    public void RequireAll(SaeConfig config, bool hasSkip)
    {
        int input = config.InputDim, output = config.OutputDim, features = config.FeatureCount;
        var known = new HashSet<string>(StringComparer.Ordinal);
        void Require(string name, params ReadOnlySpan<long> shape)
        {
            known.Add(name);
            TensorInfo info = Find(name);
            if (!info.Shape.SequenceEqual(shape))
                throw BadFile.At(_file.Path, $"the array {info} should be {BadFile.Shape(shape)}: d_in is {input}, d_sae {features}, " +
                    $"d_out {output}.");
            if (!info.DType.IsFloat())
                throw BadFile.At(_file.Path, $"the array {info} should hold floating-point numbers.");
        }
        Require(Layout.Encoder, Layout.OutputMajor ? [features, input] : [input, features]);
        Require(Layout.Decoder, features, output);
        Require(Layout.EncoderBias, features);
        Require(Layout.DecoderBias, output);
        if (config.Architecture == SaeArchitecture.JumpRelu)
            Require(Layout.Threshold, features);
        if (hasSkip)
            Require(Layout.Skip, output, input);
        if (config.K > features)
            throw BadFile.At(_file.Path, $"k is {config.K}, more than the SAE's {features} features.");
        RequireNoScaling(known);
        foreach (TensorInfo info in _file.Contents)
            if (!known.Contains(info.Name))
                throw BadFile.At(_file.Path, $"the array {info} is unknown; ignoring it might compute something else than was trained.");
    }

    // torch.allclose(scaling_factor, 1) with its defaults: |x − 1| <= 1e-8 + 1e-5.
    private void RequireNoScaling(HashSet<string> known)
    {
        const string Name = "scaling_factor";
        if (!_infos.TryGetValue(Name, out TensorInfo? info))
            return;
        known.Add(Name);
        if (info.ElementCount > Math.Max(FeatureCount, 1))
            throw BadFile.At(_file.Path, $"the array {info} has more elements than there are features ({FeatureCount}).");
        foreach (float x in _file[Name].ToFloats())
            if (!(Math.Abs((double)x - 1) <= 1e-8 + 1e-5))
                throw BadFile.At(_file.Path, $"{Name} is not all ones (there is {x}): the features are scaled once more, which is not " +
                    "supported.");
    }

    /// <summary>Whether the file has an array of this name.</summary>
    public bool Has(string name) => _infos.ContainsKey(name);

    private string Choose(string name)
    {
        string lower = name.ToLowerInvariant();
        if (!_infos.ContainsKey(lower))
            return name;
        return _infos.ContainsKey(name)
            ? throw BadFile.At(_file.Path, $"there is both {name} and {lower} in it, and no way to know which is meant.") : lower;
    }

    private TensorInfo Find(string name) => _infos.TryGetValue(name, out TensorInfo? info) ? info
        : throw BadFile.At(_file.Path, $"there is no array {name} in it.");

    private TensorInfo Matrix(string name)
    {
        TensorInfo info = Find(name);
        return info.Shape.Length == 2 ? info : throw BadFile.At(_file.Path, $"the array {info} should be a matrix.");
    }

    private int Dim(TensorInfo info, int axis) => info.Shape[axis] is > 0 and <= int.MaxValue ? (int)info.Shape[axis]
        : throw BadFile.At(_file.Path, $"the array {info} has an empty or too long dimension.");
}
