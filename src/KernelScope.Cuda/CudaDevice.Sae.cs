using System.Runtime.InteropServices;
using KernelScope.Cuda.Launching;
using KernelScope.Cuda.Memory;
using KernelScope.Cuda.Ptx;
using KernelScope.Devices;

namespace KernelScope.Cuda;

/// <summary>SAEs.</summary>
public sealed partial class CudaDevice
{
    /// <summary>Pairs of an index and a value take 8 bytes.</summary>
    private const int PairBytes = sizeof(int) + sizeof(float);

    /// <summary>Rows that the tiled encoders and the gathering of their lists take at once, whatever the memory.</summary>
    private const int MostEncodedRows = 32_768;

    /// <summary>Tiles of a block when lists are gathered: a warp each.</summary>
    private const int TilesOfBlock = 8;

    /// <summary>
    /// Up to so many features the forms for few rows take small tiles, of which there are then enough for every multiprocessor.
    /// </summary>
    private const int NarrowFeatures = 65_536;

    private const int NarrowTile = 16;
    private const int DecodedColumns = 64;
    private const int EditedColumns = 128;
    private const int EditsOfBlock = 4;

    /// <summary>Edits that go over at once.</summary>
    private const int EditsAtOnce = 4096;

    /// <inheritdoc/>
    /// <remarks>
    /// Room for every feature of every row is kept where that is within <see cref="CudaDeviceOptions.WorkBytes"/>, and then nothing waits.
    /// Beyond it, room is kept for as many
    /// pairs as fit into those bytes; the op then waits for the number of pairs there are, and makes more room and encodes again if that
    /// was too little.
    /// The k largest pairs of a TopK SAE are chosen on the host, which waits.
    /// </remarks>
    protected override void SaeEncodeCore(Mat x, SaeParameters sae, SparseCodes destination)
    {
        if (sae.TopK > 0)
        {
            SaeEncodeByHost(x, sae, destination);
            return;
        }

        CudaCodes codes = CudaCodes.From(this, destination);
        CudaWeight encoder = CudaWeight.From(this, sae.Encoder);
        if (x.Rows == 0)
        {
            codes.Begin(0, 0);
            return;
        }

        ulong weights = encoder.Address(WeightLayout.OutputMajor);
        long worst = (long)x.Rows * sae.FeatureCount;
        long room = Math.Min(worst, Math.Max(1, Options.WorkBytes / PairBytes));
        codes.Begin(x.Rows, room);
        EncodeAll(x, sae, encoder, weights, codes);
        if (worst <= codes.Capacity)
            return;
        long count = PairsOf(codes);
        if (count <= codes.Capacity)
            return;
        // A quarter more than needed: the next rows are not the same.
        codes.Begin(x.Rows, Math.Min(worst, count + (count / 4)));
        EncodeAll(x, sae, encoder, weights, codes);
    }

    /// <inheritdoc/>
    protected override void SaeDecodeCore(SparseCodes codes, SaeParameters sae, Mat destination) =>
        Decode(codes, sae, destination, plusError: false);

    /// <inheritdoc/>
    /// <remarks>One pass; <paramref name="reconstruction"/> is left as it was.</remarks>
    protected override void SaeDecodePlusErrorCore(SparseCodes codes, SaeParameters sae, Mat reconstruction, Mat destination) =>
        Decode(codes, sae, destination, plusError: true);

    /// <inheritdoc/>
    protected override void SaeEditCore(Mat read, SaeParameters sae, ReadOnlySpan<FeatureEdit> edits, Mat destination)
    {
        CudaWeight encoder = CudaWeight.From(this, sae.Encoder), decoder = CudaWeight.From(this, sae.Decoder);
        ulong encoderWeights = encoder.Address(WeightLayout.OutputMajor), decoderWeights = decoder.Address(WeightLayout.InputMajor);
        int rows = Math.Min(read.Rows, LaunchQueue.MaxGridYZ);
        _scratch.Begin((long)rows * edits.Length * sizeof(float));
        ulong coefficients = _scratch.Take((long)rows * edits.Length * sizeof(float));
        for (int first = 0; first < read.Rows; first += rows)
        {
            Mat x = read.RowRange(first, Math.Min(rows, read.Rows - first)), y = destination.RowRange(first, x.Rows);
            // All coefficients of these rows before anything is written to them: x and y may be the same matrix.
            for (int start = 0; start < edits.Length; start += EditsAtOnce)
                Coefficients(x, sae, encoder, encoderWeights, edits.Slice(start, Math.Min(EditsAtOnce, edits.Length - start)),
                    coefficients + (ulong)((long)start * x.Rows * sizeof(float)));
            for (int start = 0; start < edits.Length; start += EditsAtOnce)
                Apply(y, decoder, decoderWeights, edits.Slice(start, Math.Min(EditsAtOnce, edits.Length - start)),
                    coefficients + (ulong)((long)start * x.Rows * sizeof(float)));
        }
    }

    private void Decode(SparseCodes codes, SaeParameters sae, Mat destination, bool plusError)
    {
        CudaCodes source = CudaCodes.From(this, codes);
        CudaWeight decoder = CudaWeight.From(this, sae.Decoder);
        View<Stored> weights = decoder.View(WeightLayout.InputMajor);
        SaeDecodeKernel kernel = plusError ? _kernels.SaeDecodePlusError(decoder.Type) : _kernels.SaeDecode(decoder.Type);
        kernel.Launch(BeginOp(), new(source.Rows, Blocks(sae.OutputDim, DecodedColumns)), source.Starts, source.Features, source.Values,
            weights, bias: new(Address(sae.DecoderBias), sae.OutputDim), View(destination), sae.OutputDim, destination.Stride);
    }

    private void Coefficients(Mat x, SaeParameters sae, CudaWeight encoder, ulong weights, ReadOnlySpan<FeatureEdit> edits,
        ulong coefficients)
    {
        Span<int> features = stackalloc int[edits.Length], kinds = stackalloc int[edits.Length];
        Span<float> targets = stackalloc float[edits.Length];
        for (int e = 0; e < edits.Length; e++)
            (features[e], kinds[e], targets[e]) = (edits[e].Feature, edits[e].Kind == FeatureEditKind.Clamp ? 1 : 0, edits[e].Value);
        LaunchQueue queue = BeginOp(3 * sizeof(int) * edits.Length);
        View<int> featuresAt = queue.Upload<int>(features), kindsAt = queue.Upload<int>(kinds);
        View<float> targetsAt = queue.Upload<float>(targets);
        _kernels.SaeEditCoefficients(encoder.Type).Launch(queue, new(Blocks(edits.Length, EditsOfBlock), x.Rows), View(x),
            new(weights, encoder.Length), bias: new(Address(sae.EncoderBias), sae.FeatureCount),
            threshold: new(Address(sae.Threshold), sae.FeatureCount), featuresAt, kindsAt, targetsAt,
            new(coefficients, (long)x.Rows * edits.Length), sae.InputDim, edits.Length, x.Stride);
    }

    private void Apply(Mat y, CudaWeight decoder, ulong weights, ReadOnlySpan<FeatureEdit> edits, ulong coefficients)
    {
        Span<int> features = stackalloc int[edits.Length];
        for (int e = 0; e < edits.Length; e++)
            features[e] = edits[e].Feature;
        LaunchQueue queue = BeginOp(sizeof(int) * edits.Length);
        View<int> featuresAt = queue.Upload<int>(features);
        _kernels.SaeEditApply(decoder.Type).Launch(queue, new(y.Rows, Blocks(y.Columns, EditedColumns)),
            new(coefficients, (long)y.Rows * edits.Length), featuresAt, new(weights, decoder.Length), View(y), edits.Length, y.Columns,
            y.Stride);
    }

    private void EncodeAll(Mat x, SaeParameters sae, CudaWeight encoder, ulong weights, CudaCodes codes)
    {
        int most = RowsEncodedAtOnce(sae);
        // One form for all rows, so that a row's bits do not depend on the pieces.
        bool tiled = x.Rows > FewRows;
        for (int first = 0; first < x.Rows; first += most)
            EncodeRows(Operand.From(this, x.RowRange(first, Math.Min(most, x.Rows - first))), first, tiled, sae, encoder, weights, codes);
    }

    /// <summary>
    /// Rows whose lists, at their longest, and whose planes for tensor cores fit into the work space; a tile's rows at least, for less would read the encoder more often.
    /// </summary>
    private int RowsEncodedAtOnce(SaeParameters sae)
    {
        long rows = Options.WorkBytes / (((long)PairBytes * sae.FeatureCount) + (3L * sizeof(ushort) * sae.InputDim)) / RowStep * RowStep;
        return (int)Math.Clamp(rows, RowStep, MostEncodedRows);
    }

    /// <summary>Encodes rows behind the <paramref name="first"/> rows that are in <paramref name="codes"/> already.</summary>
    private void EncodeRows(Operand x, int first, bool tiled, SaeParameters sae, CudaWeight encoder, ulong weights, CudaCodes codes)
    {
        bool few = !tiled && IsWide(x);
        bool tensor = tiled && UsesTensorCores(x);
        SaeEncodeTensorKernel ofTensor = tensor ? _kernels.SaeEncodeTensor(encoder.Type, Options.SaePrecision) : default;
        SaeEncodeTileKernel ofTiles = tiled && !tensor ? _kernels.SaeEncodeTile(encoder.Type) : default;
        SaeEncodeKernel ofFew = few ? _kernels.SaeEncode(encoder.Type, x.Rows) : default;
        SaeEncodePlainKernel plain = tiled || few ? default : _kernels.SaeEncodePlain(encoder.Type);
        PtxKernelInfo tile = tensor ? ofTensor.Info : tiled ? ofTiles.Info : few ? ofFew.Info : plain.Info;
        long copyBytes = CopyBytes(x, tiled, Options.SaePrecision);
        int tileFeatures = few && sae.FeatureCount <= NarrowFeatures ? NarrowTile : tile.TileColumns;
        int tiles = (int)Blocks(sae.FeatureCount, tileFeatures);
        long lists = (long)x.Rows * tiles;
        // The forms for few rows give each list room for a whole tile; the tiled ones put them behind each other.
        long pairs = tiled ? (long)x.Rows * sae.FeatureCount : lists * tileFeatures;
        _scratch.Begin(lists * sizeof(int), lists * sizeof(long), lists * sizeof(int), x.Rows * sizeof(int), pairs * sizeof(int),
            pairs * sizeof(float), copyBytes);
        var made = new TileLists(
            new(_scratch.Take(lists * sizeof(int)), lists), new(_scratch.Take(lists * sizeof(long)), lists),
            new(_scratch.Take(lists * sizeof(int)), lists), new(_scratch.Take(x.Rows * sizeof(int)), x.Rows),
            new(_scratch.Take(pairs * sizeof(int)), pairs), new(_scratch.Take(pairs * sizeof(float)), pairs), tiles);
        TileInput input = Copied(x, copyBytes, Options.SaePrecision);
        x = input.Rows;
        View<Stored> matrix = new(weights, encoder.Length);
        View<float> bias = new(Address(sae.EncoderBias), sae.FeatureCount), threshold = new(Address(sae.Threshold), sae.FeatureCount);
        LaunchQueue queue = BeginOp();
        if (tensor)
        {
            ofTensor.Launch(queue, new(tiles, Blocks(x.Rows, tile.TileRows)), input.Planes, matrix, bias, threshold, made.Counts,
                made.Offsets,
                made.Features, made.Values, cursor: queue.Upload<long>([0]), capacity: pairs, x.Rows, sae.InputDim, sae.FeatureCount);
        }
        else if (tiled)
        {
            ofTiles.Launch(queue, new(tiles, Blocks(x.Rows, tile.TileRows)), x.View, matrix, bias, threshold, made.Counts, made.Offsets,
                made.Features, made.Values, cursor: queue.Upload<long>([0]), capacity: pairs, x.Rows, sae.InputDim, sae.FeatureCount,
                x.Stride);
        }
        else if (few)
        {
            ofFew.Launch(queue, new(tiles), x.View, matrix, bias, threshold, made.Counts, made.Offsets, made.Features, made.Values, x.Rows,
                sae.InputDim, sae.FeatureCount, x.Stride, tileFeatures);
        }
        else
        {
            plain.Launch(queue, new(tiles, x.Rows), x.View, matrix, bias, threshold, made.Counts, made.Offsets, made.Features, made.Values,
                sae.InputDim, sae.FeatureCount, x.Stride);
        }

        GatherLists(queue, made, x.Rows, first, codes);
    }

    private void GatherLists(LaunchQueue queue, TileLists made, int rows, int first, CudaCodes codes)
    {
        _kernels.CodesScanTiles().Launch(queue, new(rows), made.Counts, made.Places, made.RowCounts, made.Tiles);
        _kernels.CodesScanRows().Launch(queue, new(1), made.RowCounts, codes.Starts, first, rows);
        _kernels.CodesGather().Launch(queue, new(Blocks(made.Tiles, TilesOfBlock), rows), made.Counts, made.Places, made.Offsets,
            made.Features, made.Values, codes.Starts, codes.Features, codes.Values, sourceCapacity: made.Features.Length,
            capacity: codes.Capacity, first, made.Tiles);
    }

    /// <summary>Waits for the number of pairs that the last encoding found, whether or not there was room for them.</summary>
    private long PairsOf(CudaCodes codes)
    {
        long count = 0;
        Flush();
        Staging.Download(codes.Starts.Address + ((ulong)codes.Rows * sizeof(long)), MemoryMarshal.AsBytes(new Span<long>(ref count)));
        return count;
    }

    /// <summary>Where the lists of all tiles of some rows are.</summary>
    private readonly record struct TileLists(
        View<int> Counts, View<long> Offsets, View<int> Places, View<int> RowCounts, View<int> Features, View<float> Values, int Tiles);
}
