using KernelScope.Devices;

namespace KernelScope.Training;

/// <summary>What differs between the activation functions: which features of a batch are active, and what the penalty adds to a code's
/// gradient.</summary>
internal abstract class ActivationRule(Device device) : IDisposable
{
    protected Device Device { get; } = device;

    /// <summary>Lists the active features of a training batch.</summary>
    public abstract void Encode(Mat x, SaeParameters sae, SparseCodes active);

    /// <summary>The same where nothing is learned: of rows of any number, each by itself.</summary>
    public virtual void EncodeForUse(Mat x, SaeParameters sae, SparseCodes active) => Encode(x, sae, active);

    /// <summary>The derivative of the penalty by a code, of a mean over rows.</summary>
    public virtual double CodeGradient(double lambda, int rows) => 0;

    /// <summary>The threshold of all features that was found beside the training; null: there is none.</summary>
    public virtual double? CommonThreshold { get => null; set { } }

    public virtual void Dispose()
    {
    }

    public static ActivationRule Create(Device device, TrainingOptions options) => options.Activation switch
    {
        TrainingActivation.JumpRelu => new JumpRule(device),
        TrainingActivation.TopK => new TopKRule(device, options.K),
        TrainingActivation.BatchTopK => new BatchTopKRule(device, options.K),
        _ => new ReluRule(device),
    };

    /// <summary>Also for what is near a threshold, which the step asks for itself.</summary>
    private sealed class JumpRule(Device device) : ActivationRule(device)
    {
        public override void Encode(Mat x, SaeParameters sae, SparseCodes active) => Device.SaeEncode(x, sae, active);
    }

    private sealed class ReluRule(Device device) : ActivationRule(device)
    {
        public override void Encode(Mat x, SaeParameters sae, SparseCodes active) => Device.SaeEncode(x, sae, active);

        public override double CodeGradient(double lambda, int rows) => lambda / rows;
    }

    private sealed class TopKRule(Device device, int k) : ActivationRule(device)
    {
        public override void Encode(Mat x, SaeParameters sae, SparseCodes active) => Device.SaeEncode(x, sae with { TopK = k }, active);
    }

    /// <summary>The mean threshold is that of SAELens: an average of the smallest code of each batch, which forgets a hundredth a
    /// step.</summary>
    private sealed class BatchTopKRule(Device device, int k) : ActivationRule(device)
    {
        private const double Share = 0.01;
        private readonly CodeList _list = new();
        private readonly CodeList _kept = new();
        private float[] _sorted = [];
        private Mat? _threshold;

        public override double? CommonThreshold { get; set; } = 0;

        public override void Encode(Mat x, SaeParameters sae, SparseCodes active)
        {
            Device.SaeEncode(x, sae, active);
            Device.Read(active, _list);
            long most = (long)k * x.Rows;
            float bar = _list.Count > most ? Bar((int)most) : 0;
            long above = 0;
            foreach (float value in _list.Value.AsSpan(0, _list.Count))
                above += value > bar ? 1 : 0;
            float least = Keep(bar, _list.Count > most ? most - above : 0);
            if (least > 0)
                CommonThreshold = ((1 - Share) * CommonThreshold) + (Share * least);
            Device.Write(_kept, active);
        }

        public override void EncodeForUse(Mat x, SaeParameters sae, SparseCodes active)
        {
            float[] values = new float[sae.FeatureCount];
            Array.Fill(values, (float)CommonThreshold!.Value);
            _threshold ??= Device.CreateMat(1, sae.FeatureCount, "common threshold");
            Device.Write(values, _threshold.Value);
            Device.SaeEncode(x, sae with { Threshold = _threshold.Value }, active);
        }

        public override void Dispose()
        {
            _threshold?.Buffer.Dispose();
            base.Dispose();
        }

        /// <summary>The largest value that is not kept whole: above it all are.</summary>
        private float Bar(int most)
        {
            if (_sorted.Length < _list.Count)
                _sorted = new float[_list.Count];
            Span<float> sorted = _sorted.AsSpan(0, _list.Count);
            _list.Value.AsSpan(0, _list.Count).CopyTo(sorted);
            return HostCodes.Select(sorted, sorted.Length - most);
        }

        /// <summary>Keeps what is above the bar, and the first <paramref name="equal"/> that are at it; gives the least that was
        /// kept.</summary>
        private float Keep(float bar, long equal)
        {
            _kept.Resize(_list.Rows, _list.Count);
            int count = 0;
            float least = float.PositiveInfinity;
            _kept.RowStart[0] = 0;
            for (int r = 0; r < _list.Rows; r++)
            {
                for (long n = _list.RowStart[r]; n < _list.RowStart[r + 1]; n++)
                {
                    float value = _list.Value[n];
                    if (value < bar || (value == bar && equal-- <= 0))
                        continue;
                    (_kept.Feature[count], _kept.Value[count]) = (_list.Feature[n], value);
                    least = Math.Min(least, value);
                    count++;
                }

                _kept.RowStart[r + 1] = count;
            }

            return float.IsFinite(least) ? least : 0;
        }
    }
}
