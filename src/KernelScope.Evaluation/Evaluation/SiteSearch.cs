using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Evaluation;

/// <summary>Tries an SAE at the sites where it might belong, in one forward pass over a few hundred tokens.</summary>
public static class SiteSearch
{
    /// <summary>Enough tokens for an L0 and an error ratio to two digits.</summary>
    public const int DefaultTokens = 512;

    private const int Layers = 2;

    // Sites that are taken for each other: the stream between sub-layers; branches before and after their post-norm; the normed stream with and without its gain.
    private static readonly Site[][] Confusable =
    [
        [Site.ResidPre, Site.ResidMid, Site.ResidPost], [Site.AttnOut, Site.AttnOutPost], [Site.MlpOut, Site.MlpOutPost], [Site.MlpInUnit, Site.MlpIn, Site.AttnIn],
    ];

    /// <summary>The sites of the right width within two layers that are taken for <paramref name="site"/>, and it.</summary>
    public static IReadOnlyList<HookPoint> Neighbours(HookPoint site, Gemma2Config config)
    {
        ArgumentNullException.ThrowIfNull(config);
        if (!HookPoint.IsPerLayer(site.Site))
            return [site];
        Site[] family = Confusable.FirstOrDefault(f => f.Contains(site.Site)) ?? [site.Site];
        var points = new List<HookPoint>();
        for (int l = Math.Max(0, site.Layer - Layers); l <= Math.Min(config.LayerCount - 1, site.Layer + Layers); l++)
        {
            // resid_pre of a layer is resid_post of the one below: it is tried under that name, and by its own at layer 0 only.
            points.AddRange(family.Where(s => s != Site.ResidPre || l == 0 || site.Site == Site.ResidPre).Select(s => new HookPoint(s, l)));
        }

        return points;
    }

    /// <summary>How the SAE does at each neighbouring site, with the texts as they are and with BOS taken off or put before them.</summary>
    /// <param name="model">The model.</param>
    /// <param name="target">The SAE where it is used; of a transcoder the input site is varied, and its reconstruction is held against the output site.</param>
    /// <param name="tokens">Texts; the first <paramref name="most"/> tokens are used.</param>
    /// <param name="most">Most tokens.</param>
    /// <param name="cancellation">Stops between two layers.</param>
    public static IReadOnlyList<SiteFit> Run(Gemma2Model model, SaeTarget target, TokenSet tokens, int most = DefaultTokens, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(target);
        ArgumentNullException.ThrowIfNull(tokens);
        HookPoint[] points = [.. Neighbours(target.Site, model.Config)];
        var fits = new List<SiteFit>();
        foreach (bool bos in (ReadOnlySpan<bool>)[true, false])
            fits.AddRange(Measure(model, target, points, Texts(tokens, model.Config, bos, most), tokens, bos, cancellation));
        return fits;
    }

    /// <summary>How the SAE does where it is used.</summary>
    public static SiteFit Used(Gemma2Model model, SaeTarget target, TokenSet tokens, int most = DefaultTokens, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(target);
        ArgumentNullException.ThrowIfNull(tokens);
        bool bos = BeginsWithBos(tokens);
        return Measure(model, target, [target.Site], Texts(tokens, model.Config, bos, most), tokens, bos, cancellation)[0];
    }

    /// <summary>Whether the first sequence begins with BOS.</summary>
    public static bool BeginsWithBos(TokenSet tokens)
    {
        ArgumentNullException.ThrowIfNull(tokens);
        return tokens.Sequence(0) is [int first, ..] && first == tokens.BosId;
    }

    private static List<int[]> Texts(TokenSet tokens, Gemma2Config config, bool bos, int most)
    {
        var texts = new List<int[]>();
        for (int b = 0; b < tokens.Count && most > 0; b++)
        {
            int[] text = tokens.Sequence(b).ToArray();
            text = text is [int first, ..] && first == tokens.BosId ? text[1..] : text;
            text = [.. bos ? (int[])[tokens.BosId] : [], .. text.Take(Math.Min(most, config.ContextLength - 1))];
            if (text.All(tokens.IsSpecial))
                continue;
            texts.Add(text);
            most -= text.Length;
        }

        return texts;
    }

    private static List<SiteFit> Measure(Gemma2Model model, SaeTarget target, HookPoint[] points, List<int[]> texts, TokenSet set, bool bos, CancellationToken cancellation)
    {
        int longest = texts.Max(t => t.Length);
        using Session session = model.NewSession(longest, longest);
        using SparseCodes codes = target.Sae.CreateCodes();
        Mat reconstruction = model.Device.CreateMat(longest, target.Sae.Config.OutputDim, "reconstruction");
        var captured = new Dictionary<HookPoint, List<float[]>>();
        var results = points.ToDictionary(p => p, _ => (Active: new List<int>(), Reconstructed: new List<float[]>()));
        try
        {
            using var hooks = new Listening(session.Hooks);
            foreach (HookPoint point in points)
            {
                hooks.Add(point, (_, _, values) =>
                {
                    target.Sae.Encode(values, codes);
                    Mat rows = reconstruction.RowRange(0, values.Rows);
                    target.Sae.Decode(codes, values, rows);
                    results[point].Reconstructed.Add(Rows(model.Device, rows));
                    var list = new CodeList();
                    model.Device.Read(codes, list);
                    results[point].Active.AddRange(Enumerable.Range(0, list.Rows).Select(t => list.FeaturesOf(t).Length));
                });
            }

            foreach (HookPoint point in target.IsTranscoder ? [target.SiteOut] : points)
            {
                captured.Add(point, []);
                hooks.Add(point, (_, _, values) => captured[point].Add(Rows(model.Device, values)));
            }

            foreach (int[] text in texts)
            {
                session.Reset();
                model.Forward(text, session, LogitRows.None, cancellation);
            }
        }
        finally
        {
            reconstruction.Buffer.Dispose();
        }

        return [.. points.Select(p => Fit(p, bos, texts, set, results[p].Active, results[p].Reconstructed, captured[target.IsTranscoder ? target.SiteOut : p]))];
    }

    private static SiteFit Fit(HookPoint point, bool bos, List<int[]> texts, TokenSet set, List<int> active, List<float[]> reconstructed, List<float[]> values)
    {
        int width = values[0].Length / texts[0].Length, row = 0, count = 0, features = 0;
        double[] mean = new double[width];
        List<(float[] Value, float[] Reconstruction, int Start)> counted = [];
        for (int b = 0; b < texts.Count; b++)
        {
            for (int t = 0; t < texts[b].Length; t++, row++)
            {
                if (set.IsSpecial(texts[b][t]))
                    continue;
                count++;
                features += active[row];
                counted.Add((values[b], reconstructed[b], t * width));
                for (int j = 0; j < width; j++)
                    mean[j] += values[b][(t * width) + j];
            }
        }

        for (int j = 0; j < width; j++)
            mean[j] /= count;
        double[] ratios = [.. counted.Select(c => Ratio(c.Value, c.Reconstruction, c.Start, mean)).Order()];
        return new(point, bos, (double)features / count, ratios[ratios.Length / 2]);
    }

    private static double Ratio(float[] values, float[] reconstruction, int start, double[] mean)
    {
        double error = 0, deviation = 0;
        for (int j = 0; j < mean.Length; j++)
        {
            double e = (double)values[start + j] - reconstruction[start + j], d = values[start + j] - mean[j];
            error += e * e;
            deviation += d * d;
        }

        return error / deviation;
    }

    private static float[] Rows(Device device, Mat values)
    {
        float[] rows = new float[values.Rows * values.Columns];
        device.Read(values, rows);
        return rows;
    }

    /// <summary>Hooks that go together.</summary>
    private sealed class Listening(HookSet hooks) : IDisposable
    {
        private readonly List<IDisposable> _armed = [];

        public void Add(HookPoint point, Hook hook) => _armed.Add(hooks.Add(point, hook));

        public void Dispose()
        {
            foreach (IDisposable hook in _armed)
                hook.Dispose();
        }
    }
}
