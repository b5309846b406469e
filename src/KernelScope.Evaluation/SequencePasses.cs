using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Evaluation;

/// <summary>
/// The forward passes over one sequence: the layers below the sites once, the clean pass from there, and spliced passes each from its site's layer up.
/// A sequence is fed in chunks, so that activations take the memory of a chunk whatever its length.
/// </summary>
internal sealed class SequencePasses : IDisposable
{
    private readonly Gemma2Model _model;
    private readonly Session _session;
    private readonly List<DeviceBuffer> _owned = [];
    private readonly List<IDisposable> _hooks = [];
    private readonly Mat _firstStream;
    private readonly Mat _sum;
    private readonly Mat _addend;
    private readonly Dictionary<int, Mat> _streams = [];
    private readonly Dictionary<int, Mat> _middles = [];
    private readonly Dictionary<HookPoint, Mat> _values = [];

    public SequencePasses(Gemma2Model model, IReadOnlyList<SitePlan> sites, int length, int chunkLength)
    {
        _model = model;
        Length = length;
        FirstLayer = sites.Min(s => s.FirstLayer);
        EndLayer = sites.Max(s => s.EndLayer);
        _session = model.NewSession(length, Math.Min(length, chunkLength));
        _firstStream = Create(model.Config.ModelDim, "stream");
        _streams.Add(FirstLayer, _firstStream);
        if (sites.Any(s => s.AddsToStream))
            (_sum, _addend) = (Create(model.Config.ModelDim, "stream with a splice"), Create(model.Config.ModelDim, "splice"));
        foreach (SitePlan site in sites)
        {
            Dictionary<int, Mat> starts = site.AddsToStream ? _middles : _streams;
            if (!starts.ContainsKey(site.StartLayer))
                starts.Add(site.StartLayer, Create(model.Config.ModelDim, $"stream before layer {site.StartLayer}"));
            foreach ((HookPoint point, int width) in (ReadOnlySpan<(HookPoint, int)>)[(site.Read, site.InputDim),
                (site.Write, site.OutputDim)])
            {
                if (!_values.ContainsKey(point))
                    _values.Add(point, Create(width, point.ToString()));
            }
        }
    }

    /// <summary>Positions of a sequence.</summary>
    public int Length { get; }

    /// <summary>The layer before which the clean pass begins; the number of layers: after the last.</summary>
    public int FirstLayer { get; }

    /// <summary>Number of layers after which every site has been seen.</summary>
    public int EndLayer { get; }

    /// <summary>The stream before <see cref="FirstLayer"/>, [positions, d_model].</summary>
    public Mat FirstStream => _firstStream;

    /// <summary>The hooks of the passes.</summary>
    public HookSet Hooks => _session.Hooks;

    /// <summary>Makes room for a pass's final norm.</summary>
    public Mat CreateFinalNorm() => Create(_model.Config.ModelDim, "final norm of a pass");

    /// <summary>The clean values at a site's hook point, after <see cref="ToSites"/> or <see cref="Clean"/>.</summary>
    public Mat ValuesAt(HookPoint point) => _values[point];

    /// <summary>Runs the layers up to the last site; fills <see cref="FirstStream"/> and the values.</summary>
    public void ToSites(int[] tokens, CancellationToken cancellationToken)
    {
        Keep(Before(FirstLayer), _firstStream);
        foreach ((HookPoint point, Mat values) in _values)
            Keep(point, values);
        RunTo(EndLayer, tokens, cancellationToken);
    }

    /// <summary>Runs the layers below <see cref="FirstLayer"/>; fills <see cref="FirstStream"/>.</summary>
    public void Below(int[] tokens, CancellationToken cancellationToken)
    {
        Keep(Before(FirstLayer), _firstStream);
        RunTo(FirstLayer, tokens, cancellationToken);
    }

    /// <summary>The clean pass from <see cref="FirstStream"/>; fills the values at every site, the streams from which spliced passes begin, and <paramref name="finalNorm"/>.</summary>
    public void Clean(int[] tokens, Mat finalNorm, CancellationToken cancellationToken)
    {
        foreach ((int layer, Mat stream) in _streams)
        {
            if (layer != FirstLayer)
                Keep(Before(layer), stream);
        }

        foreach ((int layer, Mat stream) in _middles)
            Keep(new(Site.ResidMid, layer - 1), stream);
        foreach ((HookPoint point, Mat values) in _values)
            Keep(point, values);
        RunFrom(FirstLayer, _firstStream, tokens, finalNorm, cancellationToken);
    }

    /// <summary>A pass from a site up with <paramref name="replace"/> called on the rows of each chunk, or of the sequence: values, first position.</summary>
    public void Spliced(SitePlan site, int[] tokens, Action<Mat, int> replace, Mat finalNorm, CancellationToken cancellationToken)
    {
        if (!site.AddsToStream)
        {
            _hooks.Add(_session.Hooks.Add(site.Write, (call, _, values) => replace(values, call.Position)));
            RunFrom(site.StartLayer, _streams[site.StartLayer], tokens, finalNorm, cancellationToken);
            return;
        }

        // What the layer does: resid += branch.
        _model.Device.Copy(ValuesAt(site.Write), _addend);
        replace(_addend, 0);
        _model.Device.Copy(_middles[site.StartLayer], _sum);
        _model.Device.AddScaled(_addend, 1f, _sum);
        RunFrom(site.StartLayer, _sum, tokens, finalNorm, cancellationToken);
    }

    public void Dispose()
    {
        _session.Dispose();
        foreach (DeviceBuffer buffer in _owned)
            buffer.Dispose();
    }

    /// <summary>The stream before a layer, or after the last.</summary>
    private HookPoint Before(int layer) => layer < _model.Config.LayerCount ? new(Site.ResidPre, layer) : new(Site.ResidPost, layer - 1);

    private void Keep(HookPoint point, Mat destination) =>
        _hooks.Add(_session.Hooks.Add(
            point, (call, _, values) => call.Device.Copy(values, destination.RowRange(call.Position, values.Rows))));

    private void RunTo(int layerCount, int[] tokens, CancellationToken cancellationToken)
    {
        try
        {
            _session.Reset();
            for (int start = 0; start < tokens.Length; start += _session.ChunkLength)
                _model.ForwardTo(layerCount, tokens.AsSpan(start, Math.Min(_session.ChunkLength, tokens.Length - start)),
                    _session, cancellationToken);
        }
        finally
        {
            Disarm();
        }
    }

    private void RunFrom(int layer, Mat stream, int[] tokens, Mat finalNorm, CancellationToken cancellationToken)
    {
        try
        {
            _session.Reset();
            for (int start = 0; start < tokens.Length; start += _session.ChunkLength)
            {
                int count = Math.Min(_session.ChunkLength, tokens.Length - start);
                _model.ForwardFrom(layer, stream.RowRange(start, count), tokens.AsSpan(start, count), _session, LogitRows.None,
                    cancellationToken);
                _model.Device.Copy(_session.FinalNorm, finalNorm.RowRange(start, count));
            }
        }
        finally
        {
            Disarm();
        }
    }

    private void Disarm()
    {
        foreach (IDisposable hook in _hooks)
            hook.Dispose();
        _hooks.Clear();
    }

    private Mat Create(int columns, string name)
    {
        Mat mat = _model.Device.CreateMat(Length, columns, name);
        _owned.Add(mat.Buffer);
        return mat;
    }
}
